from parity.testing import BackendConformance


class TestTfSignalConformance(BackendConformance):
    spec = "tf_signal"
