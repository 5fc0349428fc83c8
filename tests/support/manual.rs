//! The manual page and the completions of shells, from src/cli.rs alone.

use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use sshd_mend::cli::{Cli, Part, Section, sections};
use std::io::{self, Write};

/// What packaging/generated holds: names of files, and their bytes.
pub fn generated() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut page = Vec::new();
    manual(&mut page)?;
    let mut files = vec![("sshd-mend.8".to_owned(), page)];
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "sshd-mend", &mut script);
        let name = if shell == Shell::Zsh { "_sshd-mend".to_owned() } else { format!("sshd-mend.{shell}") };
        files.push((name, script));
    }
    Ok(files)
}

/// The manual page, its sections in the order of man-pages(7).
pub fn manual(out: &mut impl Write) -> io::Result<()> {
    let command = Cli::command();
    let man = Man::new(command.clone()).section("8").manual("System Manager's Manual").source("sshd-mend").date("");
    man.render_title(out)?;
    man.render_name_section(out)?;
    synopsis(&command).to_writer(out)?;
    let mut sections = sections().into_iter();
    for description in sections.by_ref().take(1) {
        written(&description).to_writer(out)?;
    }
    commands(&command).to_writer(out)?;
    man.render_options_section(out)?;
    for section in sections {
        written(&section).to_writer(out)?;
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let others = [("sshd", "(8), "), ("systemctl", "(1), "), ("journalctl", "(1), "), ("needrestart", "(1)")];
    roff.text(others.iter().flat_map(|(name, rest)| [bold(*name), roman(*rest)]).collect::<Vec<_>>());
    roff.to_writer(out)
}

/// The commands that are for people.
fn listed(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| command.get_name() != "help")
}

/// The flags of one command alone.
fn flags(command: &Command) -> impl Iterator<Item = (&Arg, &str)> {
    let own = command.get_arguments().filter(|argument| !argument.is_global_set());
    own.filter_map(|argument| Some((argument, argument.get_long().filter(|long| *long != "help")?)))
}

fn synopsis(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    for (number, each) in listed(command).enumerate() {
        if number > 0 {
            roff.control("br", []);
        }
        let mut line = vec![bold("sshd-mend"), roman(" ["), italic("OPTION"), roman("]... "), bold(each.get_name())];
        line.extend(flags(each).flat_map(|(_, long)| [roman(" ["), bold(format!("--{long}")), roman("]")]));
        roff.text(line);
    }
    roff
}

fn commands(command: &Command) -> Roff {
    let about = |about: Option<&StyledStr>| about.map(ToString::to_string).unwrap_or_default();
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for command in listed(command) {
        roff.control("TP", []);
        roff.text([bold(command.get_name())]);
        roff.text([roman(about(command.get_about()))]);
        for (argument, long) in flags(command) {
            roff.control("RS", []);
            roff.control("TP", []);
            roff.text([bold(format!("--{long}"))]);
            roff.text([roman(about(argument.get_help()))]);
            roff.control("RE", []);
        }
    }
    roff
}

fn written(section: &Section) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [section.heading.to_uppercase().as_str()]);
    for (number, part) in section.parts.iter().enumerate() {
        match part {
            Part::Paragraph(text) => {
                if number > 0 {
                    roff.control("PP", []);
                }
                roff.text([roman(text.as_str())]);
            }
            Part::Entry(term, text) => {
                roff.control("TP", []);
                roff.text([bold(term.as_str())]);
                roff.text([roman(text.as_str())]);
            }
        }
    }
    roff
}
