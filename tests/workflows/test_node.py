"""The node between real peers: dcmtk's storescu, echoscu and storescp, Orthanc; all on the loopback interface."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from torch import nn

from tatcli.errors import UsageError
from tatcli.inference import Restorer
from tatcli.model.config import PRESETS
from tatcli.model.tat import Tat
from tatcli.model.weights import card_for_tasks, save_weights
from tatcli.networking.addresses import Destination, Listener, Tls
from tatcli.networking.peers import send
from tatcli.networking.spool import Spool
from tatcli.workflows.node import NodeConfig, Rule, run_node
from tiny_networks import TINY

pytest.importorskip("pynetdicom", reason="needs pynetdicom: pip install 'tatcli[node]'")
pytestmark = [pytest.mark.slow, pytest.mark.waits]
SETTLE = 1.0


class Identity(nn.Module):
    def forward(self, x):
        return x.clone()


def tool(name: str) -> str:
    """DCMTK or Orthanc, not pynetdicom's script of the same name beside this Python: the peer is to be another's."""
    own = Path(sys.executable).parent.resolve()
    folders = [folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder).resolve() != own]
    found = shutil.which(name, path=os.pathsep.join(folders))
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(what, seconds: float = 60.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.2)
    pytest.fail(f"not within {seconds:.0f} s")


def make_series(folder: Path, count: int = 4, description: str = "abdomen", modality: str = "CT") -> list[Path]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    series, study = generate_uid(), generate_uid()
    paths = []
    for index in range(count):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, generate_uid()
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series, study
        dataset.PatientName, dataset.PatientID, dataset.Modality = "Made^Up", "4711", modality
        dataset.SeriesNumber, dataset.SeriesDescription, dataset.InstanceNumber = 2, description, index + 1
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 32, 40, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, 0, "HU"
        dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 3
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 3 * index], [1, 0, 0, 0, 1, 0]
        dataset.PixelData = rng.integers(-1000, 1000, (32, 40)).astype("<i2").tobytes()
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        paths.append(folder / f"{index}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


@contextlib.contextmanager
def process(*words):
    running = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


@contextlib.contextmanager
def storescp(folder: Path, port: int):
    folder.mkdir(exist_ok=True)
    with process(tool("storescp"), "-aet", "SINK", "-od", folder, port):
        eventually(lambda: echo(port, "SINK") == 0)
        yield folder


def echo(port: int, title: str, caller: str = "TEST") -> int:
    command = [tool("echoscu"), "-to", "5", "-aet", caller, "-aec", title, "127.0.0.1", str(port)]
    return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode


def push(port: int, files: list[Path], caller: str = "TEST") -> int:
    command = [tool("storescu"), "-aet", caller, "-aec", "TAT", "127.0.0.1", str(port), *map(str, files)]
    return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode


@contextlib.contextmanager
def running_node(tmp_path: Path, sinks: list[str], **options):
    """A node in a thread, with a network that changes nothing; gives (port, what it said)."""
    said: list[str] = []
    stop = threading.Event()
    port = free_port()
    network = options.pop("network", None) or Identity()
    config = NodeConfig(
        spool=tmp_path / "spool",
        listener=Listener(port=port, allowed=options.pop("allowed", ()), tls=options.pop("tls", None)),
        destinations=tuple(map(Destination.parse, sinks)),
        settle=SETTLE,
        **options,
    )
    identity = Restorer.from_network(network, card_for_tasks("identity", PRESETS["tat-small"]), device="cpu")
    thread = threading.Thread(
        target=run_node, args=(config,), kwargs={"restorer": identity, "say": said.append, "until": stop.is_set}
    )
    thread.start()
    try:
        eventually(lambda: said)
        yield port, said
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def test_received_restored_and_sent_on(tmp_path):
    tool("storescu")
    files, sink = make_series(tmp_path / "scan"), free_port()
    with storescp(tmp_path / "sink", sink), running_node(tmp_path, [f"SINK@127.0.0.1:{sink}"]) as (port, said):
        assert echo(port, "TAT") == 0
        assert echo(port, "WRONG") != 0
        assert push(port, files) == 0
        eventually(lambda: any("4 objects sent" in line for line in said))
        arrived = list((tmp_path / "sink").iterdir())
        assert len(arrived) == 4
        time.sleep(3 * SETTLE)  # nothing is done twice
        assert sum("restored" in line for line in said) == 1
        late = make_series(tmp_path / "late", 1)[0]
        dataset, first = pydicom.dcmread(late), pydicom.dcmread(files[0])
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = first.SeriesInstanceUID, first.StudyInstanceUID
        dataset.ImagePositionPatient = [0, 0, 12]
        dataset.save_as(late)
        assert push(port, [late]) == 0
        eventually(lambda: any("5 objects sent" in line for line in said))
        assert len(list((tmp_path / "sink").iterdir())) == 5
    derived = [pydicom.dcmread(path) for path in arrived]
    sources = {str(pydicom.dcmread(path).SOPInstanceUID): pydicom.dcmread(path) for path in files}
    for dataset in derived:
        source = sources[dataset.SourceImageSequence[0].ReferencedSOPInstanceUID]
        assert dataset.StudyInstanceUID == source.StudyInstanceUID
        assert dataset.PixelData == source.PixelData
    assert not [line for line in said if "Made" in line or "4711" in line or "abdomen" in line]


def test_rules_and_what_they_leave_alone(tmp_path):
    tool("storescu")
    sink = free_port()
    rules = (Rule.parse("CT:*low?dose*=ct"),)
    with (
        storescp(tmp_path / "sink", sink),
        running_node(tmp_path, [f"SINK@127.0.0.1:{sink}"], rules=rules) as (port, said),
    ):
        assert push(port, make_series(tmp_path / "other", 2, "Lung")) == 0
        assert push(port, make_series(tmp_path / "dose", 3, "Thorax Low Dose")) == 0
        eventually(lambda: any("3 objects sent" in line for line in said))
        eventually(lambda: any("no rule takes it" in line for line in said))
        derived = list((tmp_path / "sink").iterdir())
        assert len(derived) == 3
        assert push(port, derived) == 0  # a peer that sends back what it got
        eventually(lambda: sum("no rule takes it" in line for line in said) == 2)
        assert len(list((tmp_path / "sink").iterdir())) == 3


NAME = "Doe^John"


class Failing(nn.Module):
    """Breaks on the first slice that it is given, with the patient's name."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls == 1:
            raise KeyError(NAME)
        return x.clone()


def test_a_bug_on_one_series_leaves_the_others_served_and_names_nobody(tmp_path):
    tool("storescu")
    sink = free_port()
    with (
        storescp(tmp_path / "sink", sink),
        running_node(tmp_path, [f"SINK@127.0.0.1:{sink}"], network=Failing()) as (port, said),
    ):
        assert push(port, make_series(tmp_path / "first", 2)) == 0
        eventually(lambda: any("a bug in tat (KeyError in test_node.py, line" in line for line in said))
        assert push(port, make_series(tmp_path / "second", 3)) == 0
        eventually(lambda: any("3 objects sent" in line for line in said))
        eventually(lambda: any("2 objects sent" in line for line in said))  # it is tried again
    assert len(list((tmp_path / "sink").iterdir())) == 5
    assert not [line for line in said if NAME in line]


FAULT = """
import os, signal, sys

def strike(event, arguments):
    name = arguments[0] if event == "open" and isinstance(arguments[0], str) else ""
    if name.endswith(".dcm") and "/received/" in name and "tat-engine" in sys.orig_argv:
        if os.environ["CRASHES"] in name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if os.environ["BREAKS"] in name and not os.path.exists(os.environ["BROKEN"]):
            os.mkdir(os.environ["BROKEN"])
            raise ZeroDivisionError(os.environ["PATIENT"])

sys.addaudithook(strike)
"""
"""Python runs it at start-up: a decoder that crashes on one series, and a bug on another, once."""


def test_a_series_that_crashes_its_decoder_ends_nothing_but_its_own_restoration(tmp_path, tiny_weights, monkeypatch):
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults/sitecustomize.py").write_text(FAULT, encoding="utf-8")
    spool, folders = Spool(tmp_path / "spool"), {}
    for name in ("crashes", "breaks", "good"):
        files = make_series(tmp_path / name, 2)
        for file in files:
            spool.store(name, file.name, file.read_bytes())
        (folders[name],) = {folder.name for folder in spool.series()} - set(folders.values())
    monkeypatch.setenv("TAT_WEIGHTS_DIR", str(tiny_weights))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "faults"))
    monkeypatch.setenv("CRASHES", folders["crashes"])
    monkeypatch.setenv("BREAKS", folders["breaks"])
    monkeypatch.setenv("BROKEN", str(tmp_path / "broken"))
    monkeypatch.setenv("PATIENT", NAME)
    said, end = [], time.monotonic() + 120
    run_node(
        NodeConfig(spool=spool.root, listener=Listener(port=free_port()), settle=0.0, device="cpu"),
        say=said.append,
        until=lambda: sum("2 restored" in line for line in said) == 2 or time.monotonic() > end,
    )
    crashes, breaks, good = (folders[name] for name in ("crashes", "breaks", "good"))
    assert f"series {crashes}: 2 objects, not restored: the process that restored it was killed by SIGSEGV" in said
    assert any(line.startswith(f"series {breaks}: not restored, a bug in tat (ZeroDivisionError in ") for line in said)
    for name in (breaks, good):
        assert f"series {name}: 2 objects received, 2 restored" in said
        assert len(list(spool.root.glob(f"{name}*/restored/*/*.dcm"))) == 2
    assert not list(spool.root.glob(f"{crashes}*/restored"))
    assert not list(spool.root.glob("*/.tat-*"))
    assert NAME not in "".join(said)


def test_only_allowed_callers(tmp_path):
    tool("storescu")
    with running_node(tmp_path, [], allowed=("CT1",)) as (port, _):
        files = make_series(tmp_path / "scan", 1)
        assert echo(port, "TAT", caller="CT2") != 0
        assert push(port, files, caller="CT2") != 0
        assert push(port, files, caller="CT1") == 0


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket")  # pynetdicom, on a connection that is refused
def test_a_peer_that_is_away_gets_it_later(tmp_path):
    tool("storescu")
    sink = free_port()
    with running_node(tmp_path, [f"SINK@127.0.0.1:{sink}"]) as (port, said):
        assert push(port, make_series(tmp_path / "scan")) == 0
        eventually(lambda: any("0 of 4 sent" in line and "again in 5 s" in line for line in said))
        with storescp(tmp_path / "sink", sink):
            eventually(lambda: any("4 objects sent" in line for line in said))
    assert len(list((tmp_path / "sink").iterdir())) == 4


@contextlib.contextmanager
def choosy_sink(sop_class: str, refused: str):
    """A peer that takes one class of objects, and of it not those of one series; gives (port, what it took)."""
    import pynetdicom

    taken: list[tuple[str, int]] = []

    def store(event) -> int:
        dataset = event.dataset
        if dataset.SeriesDescription == refused and dataset.InstanceNumber == 1:
            return 0xA900
        taken.append((str(dataset.SeriesDescription), int(dataset.InstanceNumber)))
        return 0

    entity = pynetdicom.AE(ae_title="SINK")
    entity.add_supported_context(sop_class)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_STORE, store)])
    try:
        yield server.server_address[1], taken
    finally:
        server.shutdown()


@pytest.mark.parametrize("way", ["object", "class"])
def test_what_a_peer_refuses_does_not_hold_up_the_rest(tmp_path, way):
    with (
        choosy_sink(CTImageStorage, "odd restored") as (sink, taken),
        running_node(tmp_path, [f"SINK@127.0.0.1:{sink}"]) as (port, said),
    ):
        odd, plain = make_series(tmp_path / "odd", 3, "odd"), make_series(tmp_path / "plain", 2, "plain")
        for path in odd if way == "class" else []:
            dataset = pydicom.dcmread(path)
            dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
            dataset.save_as(path)
        node = Destination("TAT", "127.0.0.1", port)
        assert list(send(odd, node, title="TEST")) == odd
        eventually(lambda: any("again in 5 s" in line for line in said))
        assert list(send(plain, node, title="TEST")) == plain
        eventually(lambda: any("2 objects sent" in line for line in said), 30)
    rest = {("odd restored", 2), ("odd restored", 3)} if way == "object" else set()
    assert {*taken} == {("plain restored", 1), ("plain restored", 2), *rest}
    got = "1 refused, the first 00001.dcm: status 0xa900" if way == "object" else "a refusal"
    assert any(f"{len(rest)} of 3 sent" in line and got in line for line in said)


def test_orthanc_files_it_as_a_new_series_of_the_same_study(tmp_path):
    tool("storescu")
    program = tool("Orthanc")
    dicom_port, web = free_port(), free_port()
    settings = {
        "Name": "test", "StorageDirectory": str(tmp_path / "orthanc"), "DicomAet": "ORTHANC", "DicomPort": dicom_port,
        "HttpPort": web, "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomAlwaysAllowStore": True,
        "Plugins": [],
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))

    def ask(place: str):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{web}/{place}", timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    files = make_series(tmp_path / "scan")
    with process(program, tmp_path / "orthanc.json"):
        eventually(lambda: ask("system"))
        direct = [tool("storescu"), "-aec", "ORTHANC", "127.0.0.1", str(dicom_port), *map(str, files)]
        subprocess.run(direct, check=True, capture_output=True, timeout=60)
        with running_node(tmp_path, [f"ORTHANC@127.0.0.1:{dicom_port}"]) as (port, said):
            assert push(port, files) == 0
            eventually(lambda: any("4 objects sent" in line for line in said))
        (study,) = ask("studies?expand")
        series = {entry["MainDicomTags"]["SeriesDescription"]: entry for entry in ask("series?expand")}
        assert len(study["Series"]) == 2
        assert {name: len(entry["Instances"]) for name, entry in series.items()} == {
            "abdomen": 4,
            "abdomen restored": 4,
        }


def test_encrypted_on_both_sides(tmp_path):
    """dcmtk sends and receives by TLS with certificates; without them nobody gets in."""
    tool("storescu")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    secured = ["+tls", key, certificate, "+cf", certificate]
    tls = Tls(certificate=certificate, key=key, authority=certificate)
    sink = free_port()
    (tmp_path / "sink").mkdir()
    with (
        process(tool("storescp"), *secured, "-aet", "SINK", "-od", tmp_path / "sink", sink),
        running_node(tmp_path, [f"SINK@127.0.0.1:{sink}"], tls=tls) as (port, said),
    ):
        files = make_series(tmp_path / "scan", 2)
        assert push(port, files) != 0
        words = [tool("storescu"), *secured, "-aec", "TAT", "127.0.0.1", port, *files]
        subprocess.run([str(word) for word in words], check=True, capture_output=True, timeout=60)
        eventually(lambda: any("2 objects sent" in line for line in said))
        assert len(list((tmp_path / "sink").iterdir())) == 2


def start_node(spool: Path, port: int, sink: int, weights: Path) -> subprocess.Popen:
    command = [
        sys.executable,
        "-c",
        "from tatcli.cli.app import main; main()",
        "node",
        "--spool",
        spool,
        "--port",
        port,
    ]
    command += ["--to", f"SINK@127.0.0.1:{sink}", "--settle", 2, "--device", "cpu"]
    environment = os.environ | {"TAT_WEIGHTS_DIR": str(weights), "PYTHONPATH": os.pathsep.join(sys.path)}
    node = subprocess.Popen(
        [str(word) for word in command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    eventually(lambda: echo(port, "TAT") == 0, 90)
    return node


def test_killed_and_started_again_it_loses_nothing(tmp_path):
    """Kill -9 while a study comes in, and again while it is restored: every object is restored and delivered once."""
    tool("storescu")
    torch.manual_seed(0)
    weights = tmp_path / "weights"
    weights.mkdir()
    save_weights(Tat(TINY), card_for_tasks("tat-small", TINY), weights / "tat-small.safetensors")
    files, port, sink = make_series(tmp_path / "scan", 12), free_port(), free_port()
    spool = tmp_path / "spool"
    node = start_node(spool, port, sink, weights)
    try:
        for path in files[:5]:
            assert push(port, [path]) == 0
        node.send_signal(signal.SIGKILL)
        node.wait()
        assert len(list(spool.glob("*/received/*.dcm"))) == 5  # what was confirmed
        node = start_node(spool, port, sink, weights)
        assert push(port, files[4:]) == 0  # the sender repeats what it isn't sure of
        eventually(lambda: list(spool.glob("*/.tat-*")) or list(spool.glob("*/restored")), 90)
        node.send_signal(signal.SIGKILL)
        node.wait()
        with storescp(tmp_path / "sink", sink):
            node = start_node(spool, port, sink, weights)
            eventually(lambda: len(list(spool.glob("*/restored/**/*.sent"))) == 12, 120)
            node.send_signal(signal.SIGKILL)
            node.wait()
            node = start_node(spool, port, sink, weights)  # nothing is owed any more
            time.sleep(4)
    finally:
        node.kill()
        node.wait()
    sources = {str(pydicom.dcmread(path).SOPInstanceUID) for path in files}
    derived = [pydicom.dcmread(path) for path in (tmp_path / "sink").iterdir()]
    assert sorted(one.SourceImageSequence[0].ReferencedSOPInstanceUID for one in derived) == sorted(sources)
    assert len({one.SeriesInstanceUID for one in derived}) == 1


@pytest.mark.parametrize(
    ("text", "words"), [("CT=mri-sr", "MR for mri-sr, got CT"), ("PET:*=pet", "PT for pet-synthesis, got PET")]
)
def test_a_rule_that_no_scan_could_follow(text, words):
    with pytest.raises(UsageError, match=f"--rule '.*': expected the modality {words}"):
        Rule.parse(text)


@pytest.mark.parametrize("text", ["CT", "=ct", "CT=nothing", ":x=ct"])
def test_rules_that_are_none(text):
    with pytest.raises(UsageError, match=r"--rule|unknown task"):
        Rule.parse(text)
