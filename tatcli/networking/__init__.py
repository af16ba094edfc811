"""DICOM over the network: receive, keep on disk, send on."""
