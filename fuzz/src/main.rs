//! The fuzzer: libFuzzer around the target that the environment variable `TARGET` names.
#![no_main]

use std::sync::LazyLock;

use lvs_fuzz::Target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("TARGET").unwrap_or_default();
    lvs_fuzz::target(&name).unwrap_or_else(|| {
        let names: Vec<&str> = lvs_fuzz::TARGETS.iter().map(|target| target.name).collect();
        panic!("TARGET must be one of: {}", names.join(" "))
    })
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
