//! A kit as an auditor meets it: unpacked by Python, and its README typed line by line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{all_said, run, tool};

/// Unpacks with Python, which also compares every file with the sum that the zip has of it.
pub fn unpack(kit: &Path) -> PathBuf {
    let to = kit.with_extension("unpacked");
    let script = "import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1]) as kit:\n    \
                  assert kit.testzip() is None\n    kit.extractall(sys.argv[2])";
    let output = run(tool("python3", "python3").args(["-c", script]).args([kit, &to]));
    assert!(output.status.success(), "{}", all_said(&output));
    to
}

/// Types every command of the README, and gives those whose answer is not the promised one.
pub fn type_readme(folder: &Path) -> Vec<String> {
    for (name, package) in [("openssl", "openssl"), ("python3", "python3"), ("zstd", "zstd")] {
        tool(name, package);
    }
    let readme = fs::read_to_string(folder.join("README.txt")).unwrap();
    let mut typed: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut below = false;
    for line in readme.lines() {
        match (line.strip_prefix("    $ "), line.strip_prefix("    ")) {
            (Some(command), _) => {
                typed.push((command, Vec::new()));
                below = true;
            }
            (None, Some(answer)) if below => typed.last_mut().unwrap().1.push(answer.trim_end()),
            _ => below = false,
        }
    }
    assert!(typed.len() >= 6 && typed.iter().all(|(command, _)| !command.is_empty()), "{readme}");
    let mut wrong = Vec::new();
    for (command, promised) in typed {
        let output = run(Command::new("sh").args(["-c", command]).current_dir(folder));
        let answer = all_said(&output);
        if !output.status.success() || !promised.iter().all(|line| answer.contains(line)) {
            wrong.push(format!("{command}\n{answer}"));
        }
    }
    wrong
}
