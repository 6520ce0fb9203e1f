//! Reading models from any bytes, and training them on any keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use omen_core::model::{Choice, Model, from_blob, to_blob};

fn numbers(data: &[u8]) -> Vec<u64> {
    let (words, _) = data.as_chunks();
    words.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

fuzz_target!(|data: &[u8]| {
    let probes = |model: &Model| {
        for key in numbers(data).into_iter().chain([0, u64::MAX, 1 << 63]) {
            let at = model.predict(key);
            assert!(at < model.trained().max(1));
        }
    };
    if let Ok(model) = from_blob(data) {
        probes(&model);
        let _ = model.holds_for(&numbers(data));
    }
    // With a header that is right the body is read too.
    let Ok(mut sealed) = to_blob(&Model::train(Choice::Linear, &[]).expect("no keys")) else {
        return;
    };
    sealed.truncate(6);
    sealed.extend(crc32fast::hash(data).to_le_bytes());
    sealed.extend(data);
    if let Ok(model) = from_blob(&sealed) {
        probes(&model);
    }
    let mut keys = numbers(data);
    keys.sort_unstable();
    for choice in [Choice::Auto, Choice::Linear, Choice::Rmi, Choice::Pla] {
        let model = Model::train(choice, &keys).expect("keys in order");
        assert_eq!(model.holds_for(&keys), Some(true));
        let read = from_blob(&to_blob(&model).expect("a small model")).expect("as written");
        assert_eq!(read, model);
        probes(&read);
    }
});
