"""dicom_fixtures."""
