//! A vhost-user front-end for any device type.
