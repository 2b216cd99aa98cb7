from parity.testing import BackendConformance


class TestReferenceConformance(BackendConformance):
    spec = "reference"
