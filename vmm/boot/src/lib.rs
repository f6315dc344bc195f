//! Kernel, initrd and ACPI tables: what a guest finds in memory when it starts.
