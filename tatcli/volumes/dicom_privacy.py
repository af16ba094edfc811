"""De-identified outputs: the basic application confidentiality profile (PS3.15 E.1), by the package dicom-anonymizer.

Its table (edition 2026c) says what becomes of which attribute; it is applied at every depth of a dataset, and private
attributes are removed. Pixels aren't looked at: CT, MR and PET from a scanner carry no names in them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from tatcli.errors import UsageError
from tatcli.volumes.dicom_options import DicomOptions, UidMaker
from tatcli.volumes.dicom_origin import Derivation, code_item, mark_derived

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

__all__ = ["Anonymiser", "check_package"]

_EDITION: Final = "dicomfields_2026c"
_METHOD: Final = "Basic Application Confidentiality Profile (PS3.15 E.1, 2026c)"
_PROFILE: Final = ("113100", "Basic Application Confidentiality Profile")
_NO_DATES: Final = {"DA": "19000101", "DT": "19000101000000", "TM": "000000"}
"""Stand-ins for what was removed but must be there: the library's are of the year 1, which is no date in DICOM."""
_MARKS: Final = ("DerivationDescription", "DerivationCodeSequence", "ContributingEquipmentSequence")
"""What marks a derived object: the source's, which may name people and departments, and tat's own behind it."""
_MAY_BE_EMPTY: Final = ("AcquisitionContextSequence",)
"""Sequences that some objects must have, and may have without items; of others, such as ReferencedStudySequence, there
are items or there is no sequence."""

Action = Callable[[Any, tuple[int, int]], None]


_new_uids: Final[dict[tuple[str | None, str], str]] = {}
"""(root, old) -> new, so that the series of a study stay together as long as the process lives."""


def check_package() -> None:
    """Whether the package is there.

    Raises:
        UsageError: it isn't.
    """
    _library()


class Anonymiser:
    """Removes who it was, where and when; UIDs are replaced by random ones, the same for the same in a process.

    Args:
        derivation: what was done, which names nobody; all that the objects say of their origin.
        options: where UIDs are made.

    Raises:
        UsageError: dicom-anonymizer isn't installed.
    """

    def __init__(self, derivation: Derivation, options: DicomOptions) -> None:
        library = _library()
        self._derivation = replace(derivation, moment=None)
        self._root, self._uids = options.uid_root, UidMaker(options, ())
        actions: dict[tuple[int, ...], Action] = library.initialize_actions(_EDITION)
        self._exact = {tag: action for tag, action in actions.items() if len(tag) == 2}
        self._ranges = [(tag, action) for tag, action in actions.items() if len(tag) == 4]

    def __call__(self, dataset: Dataset) -> Dataset:
        """Clean a derived object in place, and say so in it."""
        for keyword in (*_MARKS, "EncryptedAttributesSequence"):  # in which an earlier name may lie under a key
            if keyword in dataset:
                del dataset[keyword]
        dataset.remove_private_tags()
        self._clean(dataset)
        mark_derived(dataset, self._derivation)
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = _METHOD
        dataset.DeidentificationMethodCodeSequence = [code_item(*_PROFILE)]
        dataset.LongitudinalTemporalInformationModified = "REMOVED"
        return dataset

    def _clean(self, dataset: Dataset) -> None:
        for tag in list(dataset.keys()):
            action = self._action_for(tag.group, tag.element)
            if action is None:
                continue
            if dataset[tag].VR == "UI" and getattr(action, "__name__", "") != "delete":
                self._replace_uids(dataset[tag])
            else:
                _apply(action, dataset, tag)
        for element in dataset:
            if element.VR == "SQ":
                for part in element.value:
                    self._clean(part)

    def _replace_uids(self, element: DataElement) -> None:
        """Where there are any: one that stood for the empty ones of all would say that they are the same."""
        old = [str(uid) for uid in element.value] if element.VM > 1 else [str(element.value or "")]
        new = [_new_uids.setdefault((self._root, uid), self._uids.new(uid)) if uid else "" for uid in old]
        element.value = new if len(new) > 1 else new[0]

    def _action_for(self, group: int, element: int) -> Action | None:
        if (group, element) in self._exact:
            return self._exact[group, element]
        for (low, first, group_mask, element_mask), action in self._ranges:
            if group & group_mask == low & group_mask and element & element_mask == first & element_mask:
                return action
        return None


def _library() -> Any:  # which has no types
    try:
        return import_module("dicomanonymizer.simpledicomanonymizer")
    except ImportError:
        msg = "--anonymise: expected the package dicom-anonymizer, got none; pip install 'tatcli[anonymise]'"
        raise UsageError(msg) from None


def _apply(action: Action, dataset: Dataset, tag: Any) -> None:
    """One attribute by one of the library's actions, with stand-ins of our own where its are invalid."""
    element = dataset[tag]  # decoded: the actions work on elements, not on raw bytes
    name = getattr(action, "__name__", "")
    if name == "delete":  # the library's leaves a date
        del dataset[tag]
        return
    if element.VR == "SQ" and name.startswith("delete"):
        # Where only references must go (X/Z/U*), their UIDs are replaced one by one; emptied items would be invalid.
        if element.keyword in _MAY_BE_EMPTY:
            element.value = []
        elif not name.endswith("_UID"):
            del dataset[tag]
        return
    try:
        action(dataset, (tag.group, tag.element))
    except NotImplementedError:  # a kind of value that the library has no stand-in for
        del dataset[tag]
    if tag in dataset and element.VR in _NO_DATES and dataset[tag].value:
        dataset[tag].value = _NO_DATES[element.VR]
