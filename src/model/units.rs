//! Durations and sizes as people write them: `30d`, `500ms`, `64 KiB`. Answers for reading them without overflow and
//! for writing them back. Takes one whole number and one unit; never guesses a unit for a duration.

use std::time::Duration;

/// The longest duration that is read: a hundred years of 365 days.
const LONGEST: u64 = 36_500 * 86_400_000;

/// In milliseconds, the smallest first.
const TIMES: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// In bytes: powers of 1000 and of 1024, the smallest first.
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// Other spellings of a unit.
const ALIASES: &[(&str, &str)] = &[("m", "min"), ("KB", "kB")];

/// Why a duration or size could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// It does not begin with a digit: empty, negative, or words.
    #[error("must begin with a whole number, such as {0}")]
    NoNumber(&'static str),
    /// A duration without a unit.
    #[error("needs a unit: ms, s, min, h or d, such as 30s")]
    NoUnit,
    /// A unit that is not one of these.
    #[error("has an unknown unit; the units are {0}")]
    UnknownUnit(&'static str),
    /// Zero, which would mean never or nothing.
    #[error("must not be zero")]
    Zero,
    /// More than can be counted.
    #[error("is too large")]
    TooLarge,
}

/// Reads a duration such as `30d`, `8h`, `15min` (or `15m`), `10s`, `500ms`; a space may stand before the unit.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split(text, "30s")?;
    if unit.is_empty() {
        return Err(UnitError::NoUnit);
    }
    let factor = factor(unit, TIMES).ok_or(UnitError::UnknownUnit("ms, s, min, h and d"))?;
    match number.checked_mul(factor) {
        Some(0) => Err(UnitError::Zero),
        Some(milliseconds) if milliseconds <= LONGEST => Ok(Duration::from_millis(milliseconds)),
        _ => Err(UnitError::TooLarge),
    }
}

/// Reads a size in bytes such as `50 MB` (powers of 1000), `64 KiB` (powers of 1024) or `4096`.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split(text, "64 KiB")?;
    let factor = if unit.is_empty() { Some(1) } else { factor(unit, SIZES) };
    let factor = factor.ok_or(UnitError::UnknownUnit("B, kB, MB, GB, KiB, MiB and GiB"))?;
    match number.checked_mul(factor) {
        Some(0) => Err(UnitError::Zero),
        Some(bytes) => Ok(bytes),
        None => Err(UnitError::TooLarge),
    }
}

/// `duration` as [`parse_duration`] reads it, in the largest unit that keeps it whole. Parts of a millisecond are lost.
pub fn format_duration(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (unit, factor) = largest(milliseconds, TIMES);
    format!("{}{unit}", milliseconds / factor)
}

/// `bytes` as [`parse_size`] reads it, in the largest unit that keeps it whole.
pub fn format_size(bytes: u64) -> String {
    let (unit, factor) = largest(bytes, SIZES);
    format!("{} {unit}", bytes / factor)
}

fn largest(value: u64, units: &[(&'static str, u64)]) -> (&'static str, u64) {
    let whole = units.iter().rev().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    whole.or(units.first()).copied().unwrap_or(("", 1))
}

/// The number in front and the unit behind it.
fn split<'t>(text: &'t str, example: &'static str) -> Result<(u64, &'t str), UnitError> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitError::NoNumber(example));
    }
    let number = number.parse().map_err(|_| UnitError::TooLarge)?;
    Ok((number, unit.trim_start()))
}

fn factor(unit: &str, units: &[(&str, u64)]) -> Option<u64> {
    let unit = ALIASES.iter().find(|(alias, _)| *alias == unit).map_or(unit, |(_, unit)| unit);
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_duration_is_refused() {
        let refused: &[(&str, UnitError)] = &[
            ("", UnitError::NoNumber("30s")),
            (" ", UnitError::NoNumber("30s")),
            ("-5s", UnitError::NoNumber("30s")),
            ("+5s", UnitError::NoNumber("30s")),
            ("h", UnitError::NoNumber("30s")),
            ("٣s", UnitError::NoNumber("30s")),
            ("30", UnitError::NoUnit),
            ("30 ", UnitError::NoUnit),
            ("0s", UnitError::Zero),
            ("0d", UnitError::Zero),
            ("1.5h", UnitError::UnknownUnit("ms, s, min, h and d")),
            ("1h30min", UnitError::UnknownUnit("ms, s, min, h and d")),
            ("1 0s", UnitError::UnknownUnit("ms, s, min, h and d")),
            ("1H", UnitError::UnknownUnit("ms, s, min, h and d")),
            ("36501d", UnitError::TooLarge),
            ("18446744073709551615d", UnitError::TooLarge),
            ("18446744073709551616ms", UnitError::TooLarge),
        ];
        for (text, error) in refused {
            assert_eq!(parse_duration(text), Err(*error), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        let unknown = UnitError::UnknownUnit("B, kB, MB, GB, KiB, MiB and GiB");
        let number = UnitError::NoNumber("64 KiB");
        let refused = [("", number), ("-1", number), ("MB", number), ("0", UnitError::Zero), ("0 MB", UnitError::Zero)];
        let more = [
            ("1 Mb", unknown),
            ("1 TB", unknown),
            ("1,5 MB", unknown),
            ("18446744073709551615 kB", UnitError::TooLarge),
        ];
        for (text, error) in refused.into_iter().chain(more) {
            assert_eq!(parse_size(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn what_people_write_is_read() {
        for (text, seconds) in
            [("30d", 2_592_000), ("1h", 3600), ("7 d", 604_800), ("15m", 900), ("15min", 900), (" 10s ", 10)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text:?}");
        }
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        for (text, bytes) in
            [("50 MB", 50_000_000), ("64KiB", 65_536), ("1 GiB", 1 << 30), ("1KB", 1000), ("4096", 4096)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text:?}");
        }
        assert_eq!(format_duration(Duration::from_secs(90)), "90s");
        assert_eq!(format_duration(Duration::from_secs(86_400)), "1d");
        assert_eq!(format_size(50_000_000), "50 MB");
        assert_eq!(format_size(0), "0 B");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(milliseconds in 1..=LONGEST, bytes in 1_u64..) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn nothing_overflows_or_becomes_zero(number: u64, unit in "(ms|s|m|min|h|d|B|kB|KB|MB|GB|KiB|MiB|GiB|)", space in " {0,2}") {
            let text = format!("{number}{space}{unit}");
            if let Ok(duration) = parse_duration(&text) {
                prop_assert!(!duration.is_zero() && duration <= Duration::from_millis(LONGEST));
                prop_assert!(duration >= Duration::from_millis(number));
            }
            if let Ok(size) = parse_size(&text) {
                prop_assert!(size > 0 && size >= number);
            }
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
