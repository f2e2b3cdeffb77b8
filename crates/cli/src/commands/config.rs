//! `soloist config check`

use crate::{
    args::ConfigArgs,
    config::{of_process, show},
    exit::{Exit, Stop},
    render::Out,
};

pub(crate) fn check(args: ConfigArgs, out: &Out) -> Result<Exit, Stop> {
    let loaded = of_process(args.file, args.flags)?;
    if out.json() {
        out.line(&show::as_json(&loaded))?;
    } else {
        out.line(show::as_toml(&loaded).trim_end())?;
    }
    Ok(Exit::Completed)
}
