//! Every target takes what is in its folder of the corpus: bytes that show its formats, and bytes
//! that once broke it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lvs_fuzz::TARGETS;

#[test]
fn every_target_takes_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in TARGETS {
        let files: Vec<_> = fs::read_dir(corpus.join(target.name)).unwrap().collect();
        assert!(!files.is_empty(), "{} has no corpus", target.name);
        for file in files {
            let path = file.unwrap().path();
            println!("{}", path.display());
            (target.run)(&fs::read(path).unwrap());
        }
    }
    let folders = fs::read_dir(&corpus).unwrap();
    let folders: BTreeSet<_> = folders.map(|folder| folder.unwrap().file_name()).collect();
    let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name.into()).collect();
    assert_eq!(
        folders, names,
        "each target has a folder, each folder a target"
    );
}
