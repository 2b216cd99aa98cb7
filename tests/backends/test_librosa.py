from parity.testing import BackendConformance


class TestLibrosaConformance(BackendConformance):
    spec = "librosa"
