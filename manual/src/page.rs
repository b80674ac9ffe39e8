//! One man page.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::{MANUAL_SECTION, Section, called, commands};

/// The page of a command of this program, or of the program itself, in roff.
#[must_use]
pub fn page(command: &Command, program: &Command) -> Vec<u8> {
    let name = called(command).replace(' ', "-");
    let version = program.get_version().unwrap_or_default();
    // Pages are looked for under one word.
    let named = command
        .clone()
        .name(name.clone())
        .bin_name(called(command).to_owned());
    let man = Man::new(named);
    // Without a date, so that the same sources give the same page.
    let title = name.to_uppercase();
    let mut text = format!(
        ".TH {title} {MANUAL_SECTION} \"\" \"lvs-director {version}\" \"System Manager's Manual\"\n"
    )
    .into_bytes();
    let written = man
        .render_name_section(&mut text)
        .and_then(|()| man.render_synopsis_section(&mut text))
        .and_then(|()| man.render_description_section(&mut text))
        .and_then(|()| man.render_options_section(&mut text));
    let mut rest = Roff::new();
    if called(command) == program.get_name() {
        commands_of(program, &mut rest);
    }
    for section in Section::all_of(command) {
        describe(&section, &mut rest);
    }
    see_also(&name, program, &mut rest);
    let written = written.and_then(|()| rest.to_writer(&mut text));
    written.expect("writing to memory doesn't fail");
    text
}

fn commands_of(program: &Command, roff: &mut Roff) {
    roff.control("SH", ["COMMANDS"]);
    for command in commands(program).into_iter().skip(1) {
        let about = command.get_about().map(ToString::to_string);
        roff.control("TP", [])
            .text([bold(command.get_name().to_owned())])
            .text([roman(about.unwrap_or_default())]);
    }
}

fn describe(section: &Section, roff: &mut Roff) {
    roff.control("SH", [section.heading.to_uppercase().as_str()]);
    if let Some(examples) = section.examples() {
        for example in examples {
            roff.control("TP", []).text([bold(example.command)]);
            roff.text([roman(example.remark)]);
        }
        return;
    }
    for (term, text) in section.terms() {
        roff.control("TP", [])
            .text([bold(term)])
            .text([roman(text)]);
    }
}

fn see_also(name: &str, program: &Command, roff: &mut Roff) {
    let pages = commands(program)
        .into_iter()
        .map(|command| called(command).replace(' ', "-"));
    let mut line = Vec::new();
    for page in pages.filter(|page| page != name) {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.push(bold(page));
        line.push(roman(format!("({MANUAL_SECTION})")));
    }
    roff.control("SH", ["SEE ALSO"]).text(line);
}
