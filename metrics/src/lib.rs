//! How `director` and `rs-agent` show figures to Prometheus: the HTTP server, and the making of families.
//! Which figures there are is each program's own matter.

mod http;
mod register;
mod scrapes;
pub mod text;

pub use http::{Document, Render};
pub use hyper::body::Bytes;
pub use register::{Registered, Timestamp, VALID};
pub use scrapes::Scrapes;
