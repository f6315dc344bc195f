//! The process that starts the daemons, restarts them and ends them.
