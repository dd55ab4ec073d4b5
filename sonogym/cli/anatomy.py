"""``sonogym anatomy``: import a CT, list the patients there are, draw one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sonogym.cli.planes import planes_command
from sonogym.errors import InvalidInputError

if TYPE_CHECKING:
    from rich.table import Table

    from sonogym.anatomy.anatomy import Anatomy

SOLID_FILES = (".png", ".glb", ".ply")  # of a picture in 3-D; slices are drawn to the first
LISTED = 12  # structures named in the table; all of them are in the JSON


def register(app: typer.Typer) -> None:
    """Add the ``anatomy`` commands to ``app``."""
    anatomy = typer.Typer(help="Patients: import a CT, list them, draw one.", no_args_is_help=True)
    anatomy.command("import")(import_command)
    anatomy.command("list")(list_command)
    anatomy.command("show")(show_command)
    anatomy.command("check")(check_command)
    anatomy.command("planes")(planes_command)
    app.add_typer(anatomy, name="anatomy")


def import_command(
    out: Annotated[Path, typer.Option(help="Folder of the patient; it can then be named wherever a patient is.")],
    ct: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CT]",
            help=".nii, .nii.gz, a DICOM folder, or a patient's folder of SonoGym or TotalSegmentator; may be left out "
            "with labels.",
        ),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="TotalSegmentator result: one multi-label file, or a folder of masks.")
    ] = None,
    label_table: Annotated[str, typer.Option(help="Meaning of the ids: auto, v1 (104 classes) or v2 (117).")] = "auto",
    spacing_mm: Annotated[float, typer.Option(help="Edge of the new voxels.")] = 1.5,
    landmark: Annotated[
        list[str] | None, typer.Option(help="NAME=X,Y,Z in mm RAS, such as vertebra_L3=-5,140,-488; repeatable.")
    ] = None,
    heights_mm: Annotated[
        str | None, typer.Option(help="LOW,HIGH: keep the slices between, in mm towards the head (RAS).")
    ] = None,
    atlas: Annotated[
        bool | None,
        typer.Option("--atlas/--no-atlas", help="Estimate vertebrae and organs (default: where neither is given)."),
    ] = None,
    situs_inversus: Annotated[
        bool, typer.Option("--situs-inversus", help="The patient's organs are known to lie on the other side.")
    ] = False,
    series: Annotated[str | None, typer.Option(help="End of the UID, where a folder has several series.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the patient; else that of the folder.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what was found here as well.")] = None,
) -> None:
    """Make a patient of a CT: table and clothes removed, tissues named, skin and landmarks found.

    Writes anatomy.safetensors and the picture qa.png; look at the picture before you use the patient.

    \b
    Examples:
      sonogym anatomy import ct.nii.gz --labels segmentations/ --out patients/ann
      sonogym anatomy import ct.nii.gz --out patients/bob --landmark vertebra_L3=-5,140,-488
      sonogym anatomy import dicom_folder --out patients/di
      sonogym anatomy import --labels seg.nii.gz --out patients/ed
      sonogym anatomy import ct.nii.gz --labels seg.nii.gz --label-table v1 --spacing-mm 1 --out patients/cy
      sonogym anatomy import HumanModels/selected_dataset/s0029 --heights-mm=-700,-300 --out patients/s0029
    """
    from rich.console import Console

    from sonogym.anatomy.cache import require_writable
    from sonogym.anatomy.importing import QA_FILE, import_ct
    from sonogym.anatomy.landmark_finding import parse_landmark
    from sonogym.anatomy.resampling import parse_heights
    from sonogym.anatomy.sources import Source, find_source
    from sonogym.cli.tables import write_json

    if json_file is not None:
        require_writable(json_file)
    points = dict(parse_landmark(text) for text in landmark or [])
    heights = None if heights_mm is None else parse_heights(heights_mm)
    source = find_source(ct) if ct is not None else Source(ct=None, labels=None)
    patient = import_ct(
        source.ct, labels or source.labels, out, 1e-3 * spacing_mm, points, name, label_table, series, heights,
        not (points or labels or source.labels) if atlas is None else atlas, progress=sys.stderr.isatty(),
        situs_inversus=situs_inversus,
    )  # fmt: skip
    found = _found(patient)
    if json_file is not None:
        write_json(json_file, found)
    console = Console()
    console.print(_facts_table(found), _landmark_table(found))
    for problem in found["problems"]:
        console.print(f"[yellow]note:[/] {problem}", highlight=False)
    console.print(f"wrote {out} - look at {out / QA_FILE}", highlight=False)


def list_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with imported patients.")] = Path("."),
) -> None:
    """List the procedural splits and the patients imported into DIR.

    \b
    Examples:
      sonogym anatomy list
      sonogym anatomy list patients
    """
    from rich.console import Console
    from rich.table import Table

    from sonogym.anatomy.anatomy import ANATOMY_FILE
    from sonogym.anatomy.library import SPLITS
    from sonogym.errors import MissingFileError

    if not folder.is_dir():
        raise MissingFileError(f"no folder {folder}")
    table = Table("patient", "voxels", "landmarks", "source", title="patients")
    for split, numbers in SPLITS.items():
        table.add_row(f"procedural:{split}/0-{len(numbers) - 1}", "", "", "generated")
    for file in sorted({*folder.glob(ANATOMY_FILE), *folder.glob(f"[!.]*/{ANATOMY_FILE}")}):
        table.add_row(str(file.parent), *_described(file))
    Console().print(table)


def show_command(
    patient: Annotated[str, typer.Argument(metavar="PATIENT", help="An imported folder, or procedural:SPLIT/NUMBER.")],
    out: Annotated[Path, typer.Option(help="PNG file to write; with --3d also .glb or .ply.")],
    solid: Annotated[bool, typer.Option("--3d", help="Surfaces from three sides instead of slices.")] = False,
    plane: Annotated[
        list[str] | None, typer.Option(help="With --3d: a standard plane whose image sector is drawn; repeatable.")
    ] = None,
) -> None:
    """Draw a patient: three slices with CT, tissues, skin and landmarks, or its surfaces in 3-D.

    \b
    Examples:
      sonogym anatomy show patients/ann --out ann.png
      sonogym anatomy show procedural:test/7 --3d --plane kidney_right_long --out seven.png
      sonogym anatomy show procedural:test/7 --3d --out seven.glb
    """
    from sonogym.anatomy.cache import require_writable, write_atomically
    from sonogym.anatomy.library import load_patient

    if plane and not solid:
        raise InvalidInputError("--plane draws image sectors in 3-D: add --3d")
    kinds = SOLID_FILES if solid else SOLID_FILES[:1]
    if out.suffix not in kinds:
        raise InvalidInputError(
            f"--out must end in {', '.join(kinds)}, got {str(out)!r}{'' if solid else ' (or add --3d)'}"
        )
    require_writable(out)
    anatomy = load_patient(patient)
    if solid:
        from sonogym.anatomy.show_surfaces import write_surfaces

        write_atomically(out, lambda path: write_surfaces(anatomy, path, out.suffix, plane or ()))
    else:
        from sonogym.anatomy.show import write_figure

        write_atomically(out, lambda path: write_figure(anatomy, path))
    typer.echo(f"wrote {out}")


def check_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of an imported patient.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the checks here as well.")] = None,
) -> None:
    """Look a stored patient over: its file and hashes, grid, skin, landmarks, sides, HU of air, bone and muscle.

    Exits with 0 where nothing failed (there may be warnings), 1 where something did, 2 where there is no patient.

    \b
    Examples:
      sonogym anatomy check patients/ann
      sonogym anatomy check patients/ann --json ann.json
    """
    from sonogym.anatomy.cache import require_writable
    from sonogym.anatomy.checks import FAILED, check_patient
    from sonogym.cli.tables import print_table, write_json

    if json_file is not None:
        require_writable(json_file)
    checks = check_patient(folder)
    if json_file is not None:
        write_json(json_file, {"patient": str(folder), "checks": [vars(check) for check in checks]})
    print_table(f"patient {folder}", ("check", "result", "found"), [(c.what, c.result, c.found) for c in checks])
    if any(check.result == FAILED for check in checks):
        raise typer.Exit(1)


def _found(patient: Anatomy) -> dict[str, Any]:
    places = {name: [round(1e3 * value, 1) for value in point.tolist()] for name, point in patient.landmarks.items()}
    return {"name": patient.name, "digest": patient.digest, **patient.facts, "landmarks_mm": places}


def _facts_table(found: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table("what", "found", title=f"patient {found['name']}")
    structures = found.get("structures_ml", {})
    largest = sorted(structures, key=lambda name: -float(structures[name]))
    stored = " x ".join(map(str, found["voxels"]))
    rows = {
        "CT": f"{found['source'] or 'made of the labels'}: {stored} voxels, stored {found['orientation']}",
        "voxel": f"{' x '.join(f'{length:g}' for length in found['spacing_mm'])} mm -> {found['grid_mm']:g} mm",
        "coverage": f"{' x '.join(map(str, found['size_mm']))} mm (R, A, S), body {found['body_litres']:g} l",
        "skin cut at the sides": f"{found['skin_cut_percent']:g} %",
        "contrast agent": found["contrast"],
        "metal": f"{found['metal_ml']:g} ml" if found["metal_ml"] else "none",
        "labels": f"{found['labels']} by {found['label_table']}" if found["labels"] else "none",
        "structures": f"{len(structures)}, largest: {', '.join(largest[:LISTED])}" if structures else "none",
    }
    for what, value in rows.items():
        table.add_row(what, value)
    return table


def _landmark_table(found: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table("landmark", "R", "A", "S", title=r"landmarks \[mm]")
    estimates = {name: entry for name, entry in found["estimates"].items() if name not in found["landmarks_given"]}
    for name, point in found["landmarks_mm"].items():
        given = " (given)" if name in found["landmarks_given"] else ""
        how = f" (estimate, confidence {estimates[name]['confidence']:.2f})" if name in estimates else given
        table.add_row(name + how, *(f"{value:.1f}" for value in point))
    for name, entry in estimates.items():
        if name not in found["landmarks_mm"]:
            doubt = f" [yellow](doubtful, confidence {entry['confidence']:.2f}: not used)[/]"
            table.add_row(name + doubt, *(f"{value:.1f}" for value in entry["mm"]))
    return table


def _described(file: Path) -> tuple[str, str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as stored:
            shape, text = stored.get_slice("ct").get_shape(), stored.metadata() or {}
    except (OSError, SafetensorError) as error:
        return f"damaged: {error}", "", ""
    source = json.loads(text.get("facts", "{}")).get("source", "")
    return " x ".join(map(str, shape[1:])), str(len(json.loads(text.get("landmarks", "{}")))), str(source)
