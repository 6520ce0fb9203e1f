//! Reading a column in place.

use core::cmp::Ordering;

use super::bits::{number, packed_len, unzigzag};
use super::elias_fano::EliasFano;
use super::linear::{Fit, MAX_SHIFT, SHIFT_UNIT, Slope};
use super::patched::Patched;
use super::runs::Runs;
use super::{Codec, MAX_LINE, MAX_VALUES};

/// An encoded column, read in place. Positions count from 0.
///
/// Any position of any column that [`Column::parse`] accepts has some value:
/// bytes beyond the slice read as zero, and sums wrap.
#[derive(Clone, Copy)]
pub struct Column<'a> {
    codec: Codec,
    form: Form<'a>,
}

#[derive(Clone, Copy)]
enum Form<'a> {
    /// Constant, line, linear, frame of reference and raw.
    Fit(Fit<'a>),
    EliasFano(EliasFano<'a>),
    Runs(Runs<'a>),
    Patched(Patched<'a>),
}

/// Takes the parts of an encoding one after the other; `None` at the end of
/// the bytes.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the body is, if not behind the head.
    body: Option<usize>,
}

impl<'a> Reader<'a> {
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    #[inline]
    fn number(&mut self, len: usize) -> Option<u64> {
        let value = number(self.bytes, self.at, len)?;
        self.at += len;
        Some(value)
    }

    /// Skips `len` bytes of the body, and returns all that is left from their start
    /// on. The head has been read.
    #[inline]
    fn skip(&mut self, len: usize) -> Option<&'a [u8]> {
        let at = self.body.as_mut().unwrap_or(&mut self.at);
        let rest = self.bytes.get(*at..)?;
        *at += len;
        (len <= rest.len()).then_some(rest)
    }

    /// A width of 0 to 64 bits.
    #[inline]
    fn width(&mut self) -> Option<u32> {
        self.byte().map(u32::from).filter(|width| *width <= 64)
    }

    /// Bytes of a slope, and its shift.
    #[inline]
    fn slope_header(&mut self) -> Option<(usize, u32)> {
        let byte = self.byte()?;
        let shift = u32::from(byte >> 4) * SHIFT_UNIT;
        (shift <= MAX_SHIFT).then_some((usize::from(byte & 15), shift))
    }

    /// The base of a column, by the high nibble of its first byte.
    #[inline]
    fn base(&mut self, nibble: usize) -> Option<u64> {
        if nibble <= 8 {
            self.number(nibble)
        } else {
            self.number(nibble - 8).map(|base| !base)
        }
    }

    #[inline]
    fn slope(&mut self, (len, shift): (usize, u32)) -> Option<Slope> {
        Some(Slope {
            slope: unzigzag(self.number(len)?),
            shift,
        })
    }
}

impl<'a> Column<'a> {
    /// Reads the head of a column of `n` values at the start of `bytes`, which its
    /// body follows, and returns the column and its encoded bytes. The slice may
    /// and should extend beyond the column: 8 bytes of anything behind it keep all
    /// reads on the fast path.
    ///
    /// `n` is 1 to [`MAX_LINE`] for a constant or a line, else 1 to
    /// [`MAX_VALUES`]. `None` if the head is malformed or the column would
    /// extend beyond the bytes.
    #[must_use]
    pub fn parse(bytes: &'a [u8], n: usize) -> Option<(Self, usize)> {
        let mut reader = Reader {
            bytes,
            at: 0,
            body: None,
        };
        let column = Self::read(&mut reader, n)?;
        Some((column, reader.at))
    }

    /// As [`Self::parse`], of a column whose head is at `head` and its body at `body`:
    /// both are moved behind it.
    #[must_use]
    pub fn parse_parts(
        bytes: &'a [u8],
        head: &mut usize,
        body: &mut usize,
        n: usize,
    ) -> Option<Self> {
        let mut reader = Reader {
            bytes,
            at: *head,
            body: Some(*body),
        };
        let column = Self::read(&mut reader, n)?;
        *head = reader.at;
        *body = reader.body?;
        Some(column)
    }

    #[inline]
    fn read(r: &mut Reader<'a>, n: usize) -> Option<Self> {
        let head = r.byte()?;
        let codec = Codec::from_tag(head & 15)?;
        let nibble = usize::from(head >> 4);
        let most = match codec {
            Codec::Constant | Codec::Line => MAX_LINE,
            _ => MAX_VALUES,
        };
        if n == 0 || n > most {
            return None;
        }
        let flat = Slope::default();
        let form = match codec {
            Codec::Constant => {
                let base = r.base(nibble)?;
                Form::Fit(Fit {
                    base,
                    line: flat,
                    width: 0,
                    fields: &[],
                })
            }
            Codec::Line => {
                let slope = r.slope_header()?;
                let base = r.base(nibble)?;
                let line = r.slope(slope)?;
                Form::Fit(Fit {
                    base,
                    line,
                    width: 0,
                    fields: &[],
                })
            }
            Codec::Linear => {
                let slope = r.slope_header()?;
                let width = r.width()?;
                let base = r.base(nibble)?;
                let line = r.slope(slope)?;
                let fields = r.skip(packed_len(n, width))?;
                Form::Fit(Fit {
                    base,
                    line,
                    width,
                    fields,
                })
            }
            Codec::FrameOfReference => {
                let width = r.width()?;
                let base = r.base(nibble)?;
                let fields = r.skip(packed_len(n, width))?;
                Form::Fit(Fit {
                    base,
                    line: flat,
                    width,
                    fields,
                })
            }
            Codec::Raw => {
                let base = r.base(nibble).filter(|_| nibble == 0)?;
                let fields = r.skip(8 * n)?;
                Form::Fit(Fit {
                    base,
                    line: flat,
                    width: 64,
                    fields,
                })
            }
            Codec::EliasFano => {
                let low_bits = r.width().filter(|width| *width < 64)?;
                let high_bytes = usize::from(r.byte()?);
                if 8 * high_bytes < n {
                    return None;
                }
                let base = r.base(nibble)?;
                let bytes = r.skip(high_bytes)?;
                r.skip(packed_len(n, low_bits))?;
                Form::EliasFano(EliasFano {
                    base,
                    low_bits,
                    high_bytes,
                    bytes,
                })
            }
            Codec::Runs => {
                let width = r.width()?;
                let runs = usize::from(r.byte()?) + 1;
                if runs > n {
                    return None;
                }
                let base = r.base(nibble)?;
                let ends = r.skip(runs)?.get(..runs)?;
                let fields = r.skip(packed_len(runs, width))?;
                Form::Runs(Runs {
                    base,
                    width,
                    ends,
                    fields,
                })
            }
            Codec::Patched => Form::Patched(Self::parse_patched(r, n, nibble)?),
        };
        Some(Self { codec, form })
    }

    fn parse_patched(r: &mut Reader<'a>, n: usize, nibble: usize) -> Option<Patched<'a>> {
        let slope = r.slope_header()?;
        let width = r.width()?;
        let patch_width = r.width()?;
        let patch_len = usize::from(r.byte()?);
        let count = usize::from(r.byte()?);
        if count > n {
            return None;
        }
        let base = r.base(nibble)?;
        let line = r.slope(slope)?;
        let patch_base = r.number(patch_len)?;
        let bitmap = r.skip(n.div_ceil(8))?;
        let patches = r.skip(packed_len(count, patch_width))?;
        let fields = r.skip(packed_len(n, width))?;
        let fit = Fit {
            base,
            line,
            width,
            fields,
        };
        Some(Patched {
            fit,
            n,
            patch_base,
            patch_width,
            bitmap,
            patches,
        })
    }

    /// How the column is stored.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The value at position `i`. Beyond the column some value.
    #[must_use]
    #[inline]
    pub fn get(&self, i: usize) -> u64 {
        match &self.form {
            Form::Fit(fit) => fit.get(i),
            Form::EliasFano(fano) => fano.get(i),
            Form::Runs(runs) => runs.get(i),
            Form::Patched(patched) => patched.get(i),
        }
    }

    /// The value of all positions, if it is one for certain.
    #[must_use]
    #[inline]
    pub fn constant(&self) -> Option<u64> {
        match &self.form {
            Form::Fit(fit) => fit.constant(),
            _ => None,
        }
    }

    /// The value at position `i`, if each position after it has the next number for
    /// certain, modulo 2^64.
    #[must_use]
    #[inline]
    pub fn consecutive(&self, i: usize) -> Option<u64> {
        match &self.form {
            Form::Fit(fit) if fit.is_consecutive() => Some(fit.get(i)),
            _ => None,
        }
    }

    /// The values at `from..from + out.len()`: much cheaper than [`Self::get`]
    /// for each of them.
    pub fn decode(&self, from: usize, out: &mut [u64]) {
        match &self.form {
            Form::Fit(fit) => fit.decode(from, out),
            Form::EliasFano(fano) => fano.decode(from, out),
            Form::Runs(runs) => runs.decode(from, out),
            Form::Patched(patched) => patched.decode(from, out),
        }
    }

    /// The first position in `from..to` with a value of at least `x`, else
    /// `to`. The values in `from..to` must be non-decreasing; if a damaged
    /// page breaks that, some position in `from..=to`.
    #[must_use]
    pub fn lower_bound(&self, from: usize, to: usize, x: u64) -> usize {
        if from >= to {
            return to;
        }
        match &self.form {
            Form::Fit(fit) => fit.lower_bound(from, to, x),
            Form::EliasFano(fano) => fano.lower_bound(from, to, x),
            Form::Runs(runs) => runs.lower_bound(from, to, x),
            Form::Patched(patched) => super::linear::bisect(from, to, |i| patched.get(i) < x),
        }
    }

    /// The first position in `from..to` with a value above `x`, else `to`.
    /// Otherwise as [`Self::lower_bound`].
    #[must_use]
    pub fn upper_bound(&self, from: usize, to: usize, x: u64) -> usize {
        match x.checked_add(1) {
            Some(next) => self.lower_bound(from, to, next),
            None => to,
        }
    }

    /// The positions in `from..to` that have the value `x`, from the first to behind
    /// the last, or where they would be. Otherwise as [`Self::lower_bound`]. `near` may
    /// be called with a guess before the values there are read.
    ///
    /// # Errors
    /// The first position with a value above `x`, or `to`, if none has it.
    pub fn equal_range(
        &self,
        from: usize,
        to: usize,
        x: u64,
        near: impl FnOnce(usize),
    ) -> core::result::Result<(usize, usize), usize> {
        if from >= to {
            return Err(to);
        }
        match &self.form {
            Form::Fit(fit) => {
                if let Some(value) = fit.constant() {
                    return match value.cmp(&x) {
                        Ordering::Less => Err(to),
                        Ordering::Equal => Ok((from, to)),
                        Ordering::Greater => Err(from),
                    };
                }
            }
            Form::EliasFano(fano) => return fano.equal_range(from, to, x, near),
            Form::Runs(_) | Form::Patched(_) => {}
        }
        let first = self.lower_bound(from, to, x);
        if first >= to || self.get(first) != x {
            return Err(first);
        }
        // Most keys are unique: look at the neighbour before searching.
        let next = first + 1;
        if next < to && self.get(next) == x {
            Ok((first, self.upper_bound(next, to, x)))
        } else {
            Ok((first, next))
        }
    }

    /// Whether this is a constant or a line: no bits per value, so it can be
    /// evaluated at any position up to [`MAX_LINE`] and shared by longer
    /// blocks.
    #[must_use]
    pub fn is_line(&self) -> bool {
        matches!(self.codec, Codec::Constant | Codec::Line)
    }
}
