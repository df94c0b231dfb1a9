//! Pages of lists, and the cursors that lead from one to the next. A cursor is opaque: it has the last
//! item of its page and a MAC, so the server refuses a cursor that it did not make, or made
//! for another list or filter.

use crate::context::Context;
use crate::error::Error;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use fleeti_core::strict;
use fleeti_core::wire::list::{CURSOR_MAX, PAGE_DEFAULT, PAGE_MAX};
use fleeti_core::wire::problem::Code;
pub(crate) use fleeti_store::page::After as Last;

/// What cursors are sealed as.
const SEALED_AS: &str = "cursor";
/// Length of the MAC of a cursor, characters.
const MAC_LENGTH: usize = 32;

/// A page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` for the last one.
    pub next: Option<String>,
}

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The list, and the filter.
    pub list: (&'static str, &'a str),
    /// The cursor, if it is not the first page.
    pub cursor: Option<&'a str>,
    /// The number of items.
    pub limit: Option<u32>,
}

impl Asked<'_> {
    /// Where the page begins.
    ///
    /// # Errors
    /// [`Code::Malformed`] for a cursor that the server did not make for this list and filter.
    pub fn after(&self, cx: &Context) -> Result<Option<Last>, Error> {
        let Some(cursor) = self.cursor else { return Ok(None) };
        let refused = || {
            Error::new(Code::Malformed, "cursor: it is not one of this list and filter")
                .hint("take it from the Link of the page before, or begin without one")
        };
        let (text, mac) =
            cursor.split_once('.').filter(|_| cursor.len() <= CURSOR_MAX).ok_or_else(refused)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| refused())?;
        let (at_s, id): (u64, String) = strict::from_slice(&bytes).map_err(|_| refused())?;
        let last = Last { at_s, id };
        if self.mac(cx, &last)? == mac { Ok(Some(last)) } else { Err(refused()) }
    }

    /// The number of rows to read: one more than the page, to know whether there is another.
    ///
    /// # Errors
    /// [`Code::Invalid`].
    pub fn rows(&self) -> Result<u32, Error> {
        let limit = self.limit.unwrap_or(PAGE_DEFAULT);
        if (1..=PAGE_MAX).contains(&limit) {
            return Ok(limit + 1);
        }
        Err(Error::new(Code::Invalid, format!("limit: must be 1 to {PAGE_MAX}")))
    }

    /// The page of these rows. `key` says where an item is.
    pub fn page<T>(
        &self,
        cx: &Context,
        mut items: Vec<T>,
        key: impl Fn(&T) -> Last,
    ) -> Result<Page<T>, Error> {
        let size = self.rows()? as usize - 1;
        let has_more = items.len() > size;
        items.truncate(size);
        let next = match items.last().filter(|_| has_more) {
            Some(last) => Some(self.write(cx, &key(last))?),
            None => None,
        };
        Ok(Page { items, next })
    }

    fn write(&self, cx: &Context, after: &Last) -> Result<String, Error> {
        let text = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&(after.at_s, &after.id))?);
        Ok(format!("{text}.{}", self.mac(cx, after)?))
    }

    fn mac(&self, cx: &Context, after: &Last) -> Result<String, Error> {
        let mut mac = cx.accounts.seal(SEALED_AS, &(self.list, after.at_s, &after.id))?;
        mac.truncate(MAC_LENGTH);
        Ok(mac)
    }
}
