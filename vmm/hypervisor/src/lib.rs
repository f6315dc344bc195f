//! What the VMM needs of a hypervisor: KVM, and a fake one for tests.
