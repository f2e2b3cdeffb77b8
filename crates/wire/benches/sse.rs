//! Frames, written and read: `cargo bench -p soloist-wire`.
#![allow(missing_docs, clippy::unwrap_used)]

use divan::{Bencher, black_box, counter::ItemsCount};
use soloist_wire::{
    TaskId,
    sse::{Data, Decoder, Event, Format, Source},
};

fn main() {
    divan::main();
}

fn event(seq: u64, data: &str) -> Event<'_> {
    Event {
        seq,
        token: None,
        run: 1,
        event_type: "progress",
        data: Data::Json(data),
        timestamp: &"2026-11-23T12:00:00.123456Z",
    }
}

/// An object of so many bytes.
fn object(bytes: usize) -> String {
    format!(r#"{{"step":1,"text":"{}"}}"#, "x".repeat(bytes - 20))
}

const BYTES: [usize; 2] = [200, 2_000];
const FORMATS: [(&str, Format); 3] =
    [("full", Format::Full), ("raw", Format::Raw), ("message", Format::Message)];

#[divan::bench(args = BYTES)]
fn encode(bencher: Bencher<'_, '_>, bytes: usize) {
    encode_as(bencher, Format::Full, bytes);
}

#[divan::bench(args = FORMATS.map(|(name, _)| name))]
fn encode_format(bencher: Bencher<'_, '_>, name: &str) {
    let (_, format) = FORMATS.into_iter().find(|(known, _)| *known == name).unwrap();
    encode_as(bencher, format, 200);
}

fn encode_as(bencher: Bencher<'_, '_>, format: Format, bytes: usize) {
    let source = Source::new("demo", "ExampleTask", &TaskId::Number(1));
    let data = object(bytes);
    let (mut out, mut seq) = (Vec::with_capacity(1 << 14), 0);
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        seq += 1;
        out.clear();
        source.event(&mut out, format, black_box(&event(seq, &data)));
        black_box(out.len())
    });
}

/// A chunk of 64 frames; the figure is for one.
#[divan::bench(args = BYTES)]
fn decode(bencher: Bencher<'_, '_>, bytes: usize) {
    const FRAMES: u32 = 64;
    let source = Source::new("demo", "ExampleTask", &TaskId::Number(1));
    let data = object(bytes);
    let mut chunk = Vec::new();
    for seq in 1..=u64::from(FRAMES) {
        source.event(&mut chunk, Format::Full, &event(seq, &data));
    }
    let (mut decoder, mut frames) = (Decoder::new(), Vec::new());
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        frames.clear();
        decoder.feed(black_box(&chunk), &mut frames).unwrap();
        assert_eq!(frames.len(), FRAMES as usize);
    });
}
