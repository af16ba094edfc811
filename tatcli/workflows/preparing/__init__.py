"""The steps of ``tat prepare``: find scans, survey their headers, split them by subject, prepare them."""
