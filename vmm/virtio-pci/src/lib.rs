//! PCI, MSI-X and the virtio-pci transport.
