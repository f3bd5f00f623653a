use std::fs;
use std::path::Path;

use crate::any_bytes;

#[test]
fn the_fuzz_corpus_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/kpl_unpack");
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        // A failing assertion prints its own text; this line in the captured output names the input.
        println!("{}", path.display());
        any_bytes::check(&input);
        inputs += 1;
    }
    assert!(inputs > 20, "the corpus in {} has only {inputs} inputs", corpus.display());
}
