//! Writes the manual page and the completions of shells into a directory, from src/cli.rs alone.
//! Usage: cargo run --example documents -- DIRECTORY
#![allow(clippy::print_stderr)]

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use sshd_mend::cli::{Cli, sections};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

fn main() -> io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: documents DIRECTORY");
        std::process::exit(3);
    };
    let directory = Path::new(&directory);
    std::fs::create_dir_all(directory)?;
    manual(&mut File::create(directory.join("sshd-mend.8"))?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "sshd-mend", directory)?;
    }
    Ok(())
}

fn manual(out: &mut impl Write) -> io::Result<()> {
    let command = Cli::command();
    let man = Man::new(command.clone()).section("8").manual("System Manager's Manual").date("");
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_options_section(out)?;
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        let about = |about: Option<&clap::builder::StyledStr>| about.map(ToString::to_string).unwrap_or_default();
        roff.control("TP", []);
        roff.text([bold(command.get_name())]);
        roff.text([roman(about(command.get_about()))]);
        for argument in command.get_arguments().filter(|argument| !argument.is_global_set()) {
            let Some(long) = argument.get_long().filter(|long| *long != "help") else { continue };
            roff.control("RS", []);
            roff.control("TP", []);
            roff.text([bold(format!("--{long}"))]);
            roff.text([roman(about(argument.get_help()))]);
            roff.control("RE", []);
        }
    }
    for (heading, paragraphs) in sections() {
        roff.control("SH", [heading.to_uppercase().as_str()]);
        for (number, paragraph) in paragraphs.iter().enumerate() {
            if number > 0 {
                roff.control("PP", []);
            }
            roff.text([roman(paragraph.as_str())]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("sshd"), roman("(8), "), bold("systemctl"), roman("(1), "), bold("needrestart"), roman("(1)")]);
    roff.to_writer(out)
}
