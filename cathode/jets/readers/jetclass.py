"""JetClass and JetClass-II: jets of many classes with identity, charge and displacement of their constituents.

Names of branches and the order of the classes: https://github.com/jet-universe/particle_transformer (``dataloader.py``,
``data/JetClass/JetClass_full.yaml``) for JetClass (ROOT, tree ``tree``; H. Qu, C. Li, S. Qian,
https://arxiv.org/abs/2202.03772, https://zenodo.org/records/6619768), and the data card
https://huggingface.co/datasets/jet-universe/jetclass2 for JetClass-II (Parquet; C. Li et al.,
https://arxiv.org/abs/2405.12972).  The simulation is Delphes, whose impact parameters are in mm.

Constituents are read from their momenta: ``part_deta`` is mirrored where the jet has a negative eta and is not used.
"""

from __future__ import annotations

from dataclasses import replace

from cathode.jets.readers.layouts import JaggedLayout

__all__ = ["JETCLASS2_LAYOUT", "JETCLASS_LAYOUT", "JETCLASS_TYPES", "PIDS"]

#: Classes of ``pid``, counted from 1; 0 is none of these.
PIDS = ("charged hadron", "neutral hadron", "photon", "electron", "muon")

#: Classes of JetClass in the order of their numbers.
JETCLASS_TYPES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")

JETCLASS_LAYOUT = JaggedLayout(
    columns={"px": "part_px", "py": "part_py", "pz": "part_pz", "energy": "part_energy"},
    axis={"pt": "jet_pt", "eta": "jet_eta", "phi": "jet_phi", "energy": "jet_energy"},
    extras={
        "charge": "part_charge",
        "d0": "part_d0val",
        "d0_err": "part_d0err",
        "dz": "part_dzval",
        "dz_err": "part_dzerr",
    },
    integers=("charge",),
    flags=("part_isChargedHadron", "part_isNeutralHadron", "part_isPhoton", "part_isElectron", "part_isMuon"),
    type=tuple(f"label_{name}" for name in JETCLASS_TYPES),
    tree="tree",
)

#: The 188 classes of JetClass-II are whole numbers in ``jet_label``.
JETCLASS2_LAYOUT = replace(JETCLASS_LAYOUT, type="jet_label", tree=None)
