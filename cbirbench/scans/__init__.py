"""CT scans and masks on disk, of any format, as slices in radiological view."""
