//! What virtual routers track, and who is told.
