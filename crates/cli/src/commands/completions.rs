//! `soloist completions`

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::{
    args::Cli,
    exit::{Exit, Stop},
    render::Out,
};

pub(crate) fn completions(shell: Shell, out: &Out) -> Result<Exit, Stop> {
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "soloist", &mut script);
    let script = String::from_utf8(script).expect("the script is text");
    out.line(script.trim_end())?;
    Ok(Exit::Completed)
}
