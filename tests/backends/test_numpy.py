from parity.testing import BackendConformance


class TestNumpyConformance(BackendConformance):
    spec = "numpy"
