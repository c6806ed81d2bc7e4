//! Recordings as telephones play them: 8 kHz, 16 bit, one channel. Pure.

/// What a telephone plays, in samples per second.
const TELEPHONE: u32 = 8_000;
/// Longest recording: five minutes.
const SECONDS_MAX: usize = 300;

/// Why a recording does not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(in super::super) enum BadWav {
    /// Not a WAV file.
    #[error("not a WAV file")]
    NotWav,
    /// Not plain samples of 16 bit.
    #[error("not PCM of 16 bit, one or two channels, 8 to 48 kHz")]
    Format,
    /// No sound in it.
    #[error("no sound")]
    Empty,
    /// More than five minutes.
    #[error("longer than five minutes")]
    TooLong,
}

struct Format {
    channels: usize,
    rate: u32,
}

/// Returns a recording as telephones play it.
///
/// # Errors
/// [`BadWav`] when it does not read.
pub(super) fn telephone(wav: &[u8]) -> Result<Vec<u8>, BadWav> {
    let (format, data) = chunks(wav)?;
    let frames = data.chunks_exact(2 * format.channels);
    let mono: Vec<i32> = frames.map(|frame| mean(frame, format.channels)).collect();
    if mono.is_empty() {
        return Err(BadWav::Empty);
    }
    if mono.len() > SECONDS_MAX * format.rate as usize {
        return Err(BadWav::TooLong);
    }
    Ok(written(&resampled(&mono, format.rate)))
}

/// Returns the mean of a frame's channels.
fn mean(frame: &[u8], channels: usize) -> i32 {
    let sum: i32 = frame.chunks_exact(2).map(|sample| i32::from(i16::from_le_bytes([sample[0], sample[1]]))).sum();
    sum / i32::try_from(channels).unwrap_or(1).max(1)
}

/// Finds format and samples. A length that is not known when the head is written is a large one: the rest counts.
fn chunks(wav: &[u8]) -> Result<(Format, &[u8]), BadWav> {
    let riff = wav.get(..12).filter(|head| head.starts_with(b"RIFF") && head.ends_with(b"WAVE"));
    riff.ok_or(BadWav::NotWav)?;
    let (mut rest, mut format) = (&wav[12..], None);
    while let Some((head, body)) = rest.split_at_checked(8) {
        let length = usize::try_from(u32::from_le_bytes([head[4], head[5], head[6], head[7]])).unwrap_or(usize::MAX);
        let (body, after) = body.split_at(length.min(body.len()));
        match &head[..4] {
            b"fmt " => format = Some(read_format(body)?),
            b"data" => return Ok((format.ok_or(BadWav::Format)?, body)),
            _ => {}
        }
        // Chunks begin at even places.
        rest = after.get(length % 2..).unwrap_or_default();
    }
    Err(BadWav::Empty)
}

fn read_format(body: &[u8]) -> Result<Format, BadWav> {
    let body = body.get(..16).ok_or(BadWav::Format)?;
    let short = |at: usize| u16::from_le_bytes([body[at], body[at + 1]]);
    let rate = u32::from_le_bytes([body[4], body[5], body[6], body[7]]);
    // 1: PCM; 0xfffe: the extensible form, which says so again.
    let plain = matches!(short(0), 1 | 0xfffe) && short(14) == 16;
    if plain && matches!(short(2), 1 | 2) && (TELEPHONE..=48_000).contains(&rate) {
        Ok(Format { channels: short(2).into(), rate })
    } else {
        Err(BadWav::Format)
    }
}

/// Brings samples to the telephone's rate: each new one is the mean of the stretch that it stands for, which keeps out most
/// of what a telephone cannot play.
fn resampled(samples: &[i32], rate: u32) -> Vec<i16> {
    if rate == TELEPHONE {
        return samples.iter().map(|&sample| clamped(sample.into())).collect();
    }
    let count = samples.len() as u64 * u64::from(TELEPHONE) / u64::from(rate);
    let place = |index: u64| (index * u64::from(rate) / u64::from(TELEPHONE)) as usize;
    let stretch = |index: u64| {
        let stretch = &samples[place(index)..place(index + 1).clamp(place(index) + 1, samples.len())];
        let sum: i64 = stretch.iter().copied().map(i64::from).sum();
        clamped(sum / stretch.len() as i64)
    };
    (0..count).map(stretch).collect()
}

fn clamped(sample: i64) -> i16 {
    i16::try_from(sample.clamp(i16::MIN.into(), i16::MAX.into())).unwrap_or(0)
}

fn written(samples: &[i16]) -> Vec<u8> {
    let length = u32::try_from(samples.len() * 2).unwrap_or(u32::MAX);
    let mut wav = Vec::with_capacity(samples.len() * 2 + 44);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(length + 36).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt ");
    wav.extend_from_slice(&16_u32.to_le_bytes());
    for short in [1_u16, 1] {
        wav.extend_from_slice(&short.to_le_bytes());
    }
    wav.extend_from_slice(&TELEPHONE.to_le_bytes());
    wav.extend_from_slice(&(TELEPHONE * 2).to_le_bytes());
    for short in [2_u16, 16] {
        wav.extend_from_slice(&short.to_le_bytes());
    }
    wav.extend_from_slice(b"data");
    wav.extend_from_slice(&length.to_le_bytes());
    samples.iter().for_each(|sample| wav.extend_from_slice(&sample.to_le_bytes()));
    wav
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns a WAV file as speech commands write it.
    pub(in super::super) fn wav(rate: u32, channels: u16, samples: &[i16]) -> Vec<u8> {
        let mut wav = written(samples);
        wav[22..24].copy_from_slice(&channels.to_le_bytes());
        wav[24..28].copy_from_slice(&rate.to_le_bytes());
        wav
    }

    fn samples(wav: &[u8]) -> Vec<i16> {
        wav[44..].chunks_exact(2).map(|sample| i16::from_le_bytes([sample[0], sample[1]])).collect()
    }

    #[test]
    fn a_recording_keeps_its_length_and_loudness() {
        for (rate, channels) in [(8_000, 1), (16_000, 1), (22_050, 1), (44_100, 2), (48_000, 2)] {
            let count = rate as usize * usize::from(channels) / 2;
            let telephone = telephone(&wav(rate, channels, &vec![-1_234; count])).unwrap();
            let samples = samples(&telephone);
            assert!(samples.len().abs_diff(4_000) <= 1, "{rate}: {}", samples.len());
            assert!(samples.iter().all(|&sample| sample == -1_234), "{rate}");
        }
    }

    #[test]
    fn what_is_no_recording_is_refused_by_name() {
        let good = wav(16_000, 1, &[1; 10]);
        for (bad, why) in [
            (b"rubbish".to_vec(), BadWav::NotWav),
            (wav(4_000, 1, &[1; 10]), BadWav::Format),
            (wav(16_000, 6, &[1; 12]), BadWav::Format),
            (wav(16_000, 1, &[]), BadWav::Empty),
            (good[..40].to_vec(), BadWav::Empty),
            (wav(8_000, 1, &vec![0; 8_000 * 301]), BadWav::TooLong),
        ] {
            assert_eq!(telephone(&bad), Err(why));
        }
        // A length that was not known yet when the head was written.
        let mut streamed = good;
        streamed[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(samples(&telephone(&streamed).unwrap()).len(), 5);
    }

    proptest! {
        #[test]
        fn nothing_that_a_command_writes_is_too_much(
            noise in prop::collection::vec(any::<u8>(), 0..200),
            at in 0_usize..60,
        ) {
            let _bad = telephone(&noise);
            let mut wav = wav(16_000, 1, &[5; 40]);
            let end = (at + noise.len()).min(wav.len());
            wav[at..end].copy_from_slice(&noise[..end - at]);
            let _maybe = telephone(&wav);
        }
    }
}
