"""Many scans in one run: what is finished stays so, what fails is named, and nothing ends the run but its end."""
