//! Rise and fall.
