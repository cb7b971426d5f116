//! The report page in a real browser: no console error, charts that are there, text that can be selected, paper.

mod common;
#[path = "report/invented.rs"]
mod invented;

use std::fs;
use std::path::{Path, PathBuf};

use license_relay::report::html;

#[test]
fn an_invented_year() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/report");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("invented.html"), html::render(&invented::year())).unwrap();
    let _: Option<PathBuf> = None;
}
