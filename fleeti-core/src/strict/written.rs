//! The shape of a value as serde writes it, without the values: they may be secret.

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::{Error, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;

/// The shape of a value that was written.
pub(super) enum Written {
    Null,
    Boolean,
    Number,
    Text,
    List(Vec<Self>),
    Object(Fields),
}

/// The fields of an object.
#[derive(Default)]
pub(super) struct Fields {
    /// Those that were written.
    pub(super) written: BTreeMap<Cow<'static, str>, Written>,
    /// Those that the type has, and that are not written because they have their defaults.
    pub(super) left_out: Vec<&'static str>,
}

impl Written {
    pub(super) fn of(value: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        value.serialize(Writer)
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

struct Writer;

/// The methods of a serializer for values of one shape.
macro_rules! shapes {
    ($($method:ident: $type:ty => $shape:ident,)*) => {
        $(fn $method(self, _: $type) -> Result<Written, Error> {
            Ok(Written::$shape)
        })*
    };
}

impl Serializer for Writer {
    type Ok = Written;
    type Error = Error;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = Variant<List>;
    type SerializeMap = Object;
    type SerializeStruct = Object;
    type SerializeStructVariant = Variant<Object>;

    shapes! {
        serialize_bool: bool => Boolean,
        serialize_i8: i8 => Number,
        serialize_i16: i16 => Number,
        serialize_i32: i32 => Number,
        serialize_i64: i64 => Number,
        serialize_i128: i128 => Number,
        serialize_u8: u8 => Number,
        serialize_u16: u16 => Number,
        serialize_u32: u32 => Number,
        serialize_u64: u64 => Number,
        serialize_u128: u128 => Number,
        serialize_f32: f32 => Number,
        serialize_f64: f64 => Number,
        serialize_char: char => Text,
        serialize_str: &str => Text,
        serialize_unit_struct: &'static str => Null,
    }

    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Result<Written, Error> {
        Ok(Written::Text)
    }
    fn serialize_bytes(self, bytes: &[u8]) -> Result<Written, Error> {
        Ok(Written::List(bytes.iter().map(|_| Written::Number).collect()))
    }
    fn serialize_none(self) -> Result<Written, Error> {
        Ok(Written::Null)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Written, Error> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Written, Error> {
        Ok(Written::Null)
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<Written, Error> {
        Ok(Written::Text)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Written, Error> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Written, Error> {
        Ok(named(variant, value.serialize(self)?))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<List, Error> {
        Ok(List(Vec::new()))
    }
    fn serialize_tuple(self, _: usize) -> Result<List, Error> {
        Ok(List(Vec::new()))
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<List, Error> {
        Ok(List(Vec::new()))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Variant<List>, Error> {
        Ok(Variant { name, content: List(Vec::new()) })
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Object, Error> {
        Ok(Object::default())
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Object, Error> {
        Ok(Object::default())
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Variant<Object>, Error> {
        Ok(Variant { name, content: Object::default() })
    }
}

/// A variant with a value, as serde writes it without a tag: an object with the variant's name.
fn named(variant: &'static str, value: Written) -> Written {
    let written = BTreeMap::from([(Cow::Borrowed(variant), value)]);
    Written::Object(Fields { written, left_out: Vec::new() })
}

struct Variant<T> {
    name: &'static str,
    content: T,
}

struct List(Vec<Written>);

impl List {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.0.push(Written::of(value)?);
        Ok(())
    }
}

impl SerializeSeq for List {
    type Ok = Written;
    type Error = Error;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.push(value)
    }
    fn end(self) -> Result<Written, Error> {
        Ok(Written::List(self.0))
    }
}

impl SerializeTuple for List {
    type Ok = Written;
    type Error = Error;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.push(value)
    }
    fn end(self) -> Result<Written, Error> {
        Ok(Written::List(self.0))
    }
}

impl SerializeTupleStruct for List {
    type Ok = Written;
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.push(value)
    }
    fn end(self) -> Result<Written, Error> {
        Ok(Written::List(self.0))
    }
}

impl SerializeTupleVariant for Variant<List> {
    type Ok = Written;
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.content.push(value)
    }
    fn end(self) -> Result<Written, Error> {
        Ok(named(self.name, Written::List(self.content.0)))
    }
}

#[derive(Default)]
struct Object {
    fields: Fields,
    /// The key whose value is not written yet.
    key: Option<String>,
}

impl Object {
    fn set<T: Serialize + ?Sized>(
        &mut self,
        name: Cow<'static, str>,
        value: &T,
    ) -> Result<(), Error> {
        self.fields.written.insert(name, Written::of(value)?);
        Ok(())
    }
}

impl SerializeMap for Object {
    type Ok = Written;
    type Error = Error;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        // A key that is a number or a boolean is written as a string.
        self.key = Some(match serde_json::to_value(key)? {
            Value::String(key) => key,
            key => key.to_string(),
        });
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = self.key.take().ok_or_else(|| Error::custom("a value without a key"))?;
        self.set(Cow::Owned(key), value)
    }
    fn end(self) -> Result<Written, Error> {
        Ok(Written::Object(self.fields))
    }
}

impl SerializeStruct for Object {
    type Ok = Written;
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.set(Cow::Borrowed(name), value)
    }
    fn skip_field(&mut self, name: &'static str) -> Result<(), Error> {
        self.fields.left_out.push(name);
        Ok(())
    }
    fn end(self) -> Result<Written, Error> {
        Ok(Written::Object(self.fields))
    }
}

impl SerializeStructVariant for Variant<Object> {
    type Ok = Written;
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.content.set(Cow::Borrowed(name), value)
    }
    fn skip_field(&mut self, name: &'static str) -> Result<(), Error> {
        self.content.fields.left_out.push(name);
        Ok(())
    }
    fn end(self) -> Result<Written, Error> {
        Ok(named(self.name, Written::Object(self.content.fields)))
    }
}
