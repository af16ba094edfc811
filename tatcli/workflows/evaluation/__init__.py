"""The parts of :mod:`tatcli.workflows.evaluate`: the report, the network, files and datasets."""
