//! `soloist openapi`

use crate::{
    exit::{Exit, Stop},
    render::Out,
};

pub(crate) fn openapi(out: &Out) -> Result<Exit, Stop> {
    out.line(soloist_server::OPENAPI.trim_end())?;
    Ok(Exit::Completed)
}
