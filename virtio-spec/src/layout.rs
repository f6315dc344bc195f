//! Structures of fixed size with explicit little-endian encodings.
//!
//! [`le_struct!`] declares a structure and derives its encoding from the order of its fields:
//! they lie one after the other without padding. Padding that a specification has is a field, or
//! at a structure's end `..n`: so many zero bytes that nobody looks at.

/// Name, offset and size in bytes of one field of an encoded structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The field's name, as in the structure.
    pub name: &'static str,
    /// Bytes from the structure's start.
    pub offset: usize,
    /// Bytes that the field takes.
    pub size: usize,
}

/// A value that may stand in a field.
pub(crate) trait Encode: Sized {
    /// Bytes in the encoding.
    const SIZE: usize;
    /// Appends the encoding.
    fn put(&self, out: &mut Writer<'_>);
    /// Takes the value from the front.
    fn take(input: &mut Reader<'_>) -> Self;
}

/// The part of a buffer that is still to be written.
pub(crate) struct Writer<'a>(pub(crate) &'a mut [u8]);

impl Writer<'_> {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        let rest = std::mem::take(&mut self.0);
        if let Some((front, rest)) = rest.split_first_chunk_mut::<N>() {
            *front = bytes;
            self.0 = rest;
        }
    }
}

/// The part of a buffer that is still to be read. Past the end everything reads as zero.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((front, rest)) = self.0.split_first_chunk::<N>() else {
            self.0 = &[];
            return [0; N];
        };
        self.0 = rest;
        *front
    }
}

macro_rules! encode_integer {
    ($($int:ty),*) => {$(
        impl Encode for $int {
            const SIZE: usize = size_of::<$int>();
            #[inline]
            fn put(&self, out: &mut Writer<'_>) {
                out.put(self.to_le_bytes());
            }
            #[inline]
            fn take(input: &mut Reader<'_>) -> Self {
                Self::from_le_bytes(input.take())
            }
        }
    )*};
}
encode_integer!(u8, u16, u32, u64);

impl<T: Encode + Copy, const N: usize> Encode for [T; N] {
    const SIZE: usize = T::SIZE * N;
    #[inline]
    fn put(&self, out: &mut Writer<'_>) {
        for item in self {
            item.put(out);
        }
    }
    #[inline]
    fn take(input: &mut Reader<'_>) -> Self {
        std::array::from_fn(|_| T::take(input))
    }
}

/// Declares a structure whose encoding is its fields in order, little-endian, without padding but
/// for the `..n` zero bytes that may stand at its end.
///
/// The structure gets `SIZE`, `FIELDS` (names, offsets and sizes), `to_bytes`, `from_bytes` and
/// `from_prefix`.
macro_rules! le_struct {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_meta:meta])* $field_vis:vis $field:ident: $ty:ty, )*
            $( ..$padding:literal )?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis struct $name {
            $( $(#[$field_meta])* $field_vis $field: $ty, )*
        }

        impl $name {
            /// Bytes in the encoding.
            $vis const SIZE: usize = 0 $( + <$ty as $crate::layout::Encode>::SIZE )* $( + $padding )?;

            /// Where each field lies in the encoding.
            $vis const FIELDS: &'static [$crate::layout::Field] = &{
                let offset = 0;
                $( let (offset, $field) = $crate::layout::place(
                    offset, stringify!($field), <$ty as $crate::layout::Encode>::SIZE); )*
                let _end: usize = offset;
                [$( $field ),*]
            };

            /// The encoding, as it stands in memory or in a message.
            #[inline]
            #[must_use]
            $vis fn to_bytes(self) -> [u8; Self::SIZE] {
                let mut bytes = [0; Self::SIZE];
                $crate::layout::Encode::put(&self, &mut $crate::layout::Writer(&mut bytes));
                bytes
            }

            /// Decodes what `to_bytes` made. Every pattern of bytes is a value; judging it is
            /// the caller's.
            #[inline]
            #[must_use]
            $vis fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
                $crate::layout::Encode::take(&mut $crate::layout::Reader(bytes))
            }

            /// Decodes the first `SIZE` bytes; `None` if there are fewer.
            #[inline]
            #[must_use]
            $vis fn from_prefix(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().map(Self::from_bytes)
            }
        }

        impl $crate::layout::Encode for $name {
            const SIZE: usize = Self::SIZE;
            #[inline]
            fn put(&self, out: &mut $crate::layout::Writer<'_>) {
                $( $crate::layout::Encode::put(&self.$field, out); )*
                $( $crate::layout::Encode::put(&[0_u8; $padding], out); )?
            }
            #[inline]
            fn take(input: &mut $crate::layout::Reader<'_>) -> Self {
                let value = Self { $( $field: $crate::layout::Encode::take(input), )* };
                $( let _: [u8; $padding] = $crate::layout::Encode::take(input); )?
                value
            }
        }
    };
}
pub(crate) use le_struct;

/// The next free offset, and the field that lies at `offset`.
pub(crate) const fn place(offset: usize, name: &'static str, size: usize) -> (usize, Field) {
    (offset + size, Field { name, offset, size })
}

#[cfg(test)]
mod tests {
    le_struct! {
        /// Something of every kind.
        struct Sample {
            byte: u8,
            number: u32,
            pair: [u16; 2],
            ..3
        }
    }

    #[test]
    fn fields_lie_in_order_without_padding() {
        assert_eq!(Sample::SIZE, 12);
        let places: Vec<_> = Sample::FIELDS.iter().map(|f| (f.name, f.offset, f.size)).collect();
        assert_eq!(places, [("byte", 0, 1), ("number", 1, 4), ("pair", 5, 4)]);
    }

    #[test]
    fn encoding_is_little_endian() {
        let sample = Sample { byte: 1, number: 0x0302_0100, pair: [0x0504, 0x0706] };
        let bytes = [1, 0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0];
        assert_eq!(sample.to_bytes(), bytes);
        assert_eq!(Sample::from_bytes(&bytes), sample);
        assert_eq!(Sample::from_prefix(&bytes[..11]), None);
    }
}
