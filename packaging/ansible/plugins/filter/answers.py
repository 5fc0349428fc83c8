"""What hosts answered to `sshd-mend check --json` or `repair --json`, as rows of a report.

A host may be unreachable, have no sshd-mend, or send anything at all: each is a row, and none is an error of the playbook.
"""

import json
import math

# Worst first.
RANKS = ["unreachable", "critical", "unreadable", "not installed", "unknown", "warning", "ok"]
BY_EXIT_STATUS = {0: "ok", 1: "warning", 2: "critical", 3: "unknown"}


def plain(text, limit=200):
    """Printable ASCII on one line: a host does not decide what the terminal does."""
    words = " ".join(str(text).split())
    return "".join(c if " " <= c <= "~" else "?" for c in words)[:limit]


def finite(text):
    """A number that JSON can have: Python reads 1e999, NaN and Infinity, too."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def is_shallow(value, levels=20):
    """Ansible cannot keep what is nested without end."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(is_shallow(part, levels - 1) for part in parts)


def outcome_of(stdout):
    """The outcome that sshd-mend printed as one line, or None. Standard error is on the same terminal."""
    for line in reversed(str(stdout).splitlines()):
        try:
            outcome = json.loads(line, parse_float=finite, parse_constant=finite)
        except (ValueError, RecursionError):
            continue
        if not isinstance(outcome, dict) or not is_shallow(outcome):
            continue
        status = outcome.get("exit_status")
        if type(outcome.get("schema")) is int and type(status) is int and status in BY_EXIT_STATUS:
            return outcome
    return None


def what_is_wrong(outcome):
    """The refusal, or the worst finding, in the words of the host; nothing once it has been repaired."""
    if outcome.get("verdict") == "repaired":
        return ""
    refusal, findings = outcome.get("refusal"), outcome.get("findings")
    said = [refusal] if isinstance(refusal, dict) else findings if isinstance(findings, list) else []
    return next((plain(entry.get("message", "")) for entry in said if isinstance(entry, dict)), "")


def answer(result, host):
    """The row of a host, from the registered result of a raw command."""
    stdout = result.get("stdout") or ""
    outcome = outcome_of(stdout)
    if result.get("unreachable"):
        state, verdict = "unreachable", "unreachable"
        text = f"No new login from here: perhaps it is locked out. Look at it from its console ({plain(result.get('msg', ''), 1000)[-160:]})."
    elif outcome is not None:
        state, verdict = BY_EXIT_STATUS[outcome["exit_status"]], plain(outcome.get("verdict", ""), 20)
        text = what_is_wrong(outcome)
    elif result.get("rc") in (126, 127) and "/sshd-mend" in stdout:
        state, verdict = "not installed", "not installed"
        text = "There is no /usr/sbin/sshd-mend."
    else:
        state, verdict = "unreadable", "unreadable"
        said = plain(stdout or result.get("stderr") or result.get("msg") or "nothing", 120)
        text = f"It did not answer as sshd-mend does, but: {said}"
    return {"host": str(host), "state": state, "verdict": verdict, "text": text, "outcome": outcome}


def worst_first(answers):
    """The rows in the order in which they need a person."""
    return sorted(answers, key=lambda row: (RANKS.index(row["state"]), row["host"]))


def table(answers):
    """Lines of text, of which the last counts."""
    rows = [("HOST", "STATE", "VERDICT", "WHAT IS WRONG")]
    rows += [(row["host"], row["state"], row["verdict"], row["text"]) for row in worst_first(answers)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]).rstrip() for row in rows]
    counts = [(sum(row["state"] == state for row in answers), state) for state in RANKS]
    hosts = f"{len(answers)} host{'' if len(answers) == 1 else 's'}"
    return [*lines, f"{hosts}: " + ", ".join(f"{count} {state}" for count, state in counts if count)]


class FilterModule:
    """Filters of sshd_mend.fleet."""

    def filters(self):
        return {"answer": answer, "worst_first": worst_first, "table": table}
