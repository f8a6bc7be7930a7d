"""`tenth benchmark`: the tasks for any system, and the scores of the images that it made."""

from __future__ import annotations

from tenth.cli import parameters
from tenth.cli.commands.evaluation.evaluate import DLIB_NOTE
from tenth.core.console import print_message, print_result

NEXT_TEXT = "Fill a folder as benchmark.json says, then `tenth benchmark score FOLDER --tasks {} --name NAME`."


def benchmark() -> None:
    """Compare any systems on several photos of one person: export the tasks, score the images that a system made."""


def benchmark_export(
    people: parameters.PeopleFile,
    photos: parameters.PhotosFolder,
    output: parameters.TasksFolder,
    split: parameters.EvaluatedSplit = "test",
    references: parameters.PhotoCounts = "1,3,5,9",
    prompt_sets: parameters.PromptSets = "portrait,attributes",
    images: parameters.ImagesPerPrompt = 4,
    max_people: parameters.MaxPeople = None,
    control_model: parameters.ControlModel = None,
) -> int:
    """Write the tasks of a people list: photos to be given, prompts and seeds, for any system.

    People are numbers; no name is written. The same photos give the same tasks. The folder holds copies of the photos:
    it is not to be passed on.
    """
    from tenth.data.faces.crops import PhotoDataset
    from tenth.data.lfw import people_folder
    from tenth.data.splits import EVERYBODY
    from tenth.experiments.benchmark.export import PROMPT_SETS, export_benchmark
    from tenth.experiments.recipe import ExperimentRecipe
    from tenth.models.memory.planner import LoadOptions
    from tenth.models.registry import DEFAULT_MODEL, load_model

    everybody = split == EVERYBODY
    recipe = ExperimentRecipe(
        data=PhotoDataset(people, people_folder(photos)),
        split="test" if everybody else split,
        model=control_model or DEFAULT_MODEL,
        images=images,
        prompt_sets={name: PROMPT_SETS[name] for name in prompt_sets.split(",")[1:]},
        references=references[-1],
        photo_counts=references,
        max_people=max_people,
    )
    model = load_model(control_model, options=LoadOptions(), on_message=print_message) if control_model else None
    exported = export_benchmark(recipe, output, model, everybody=everybody)
    print_result(f"{output}: benchmark {exported.id}, {len(exported.people)} people, {len(exported.tasks):,} images to make")
    print_message(NEXT_TEXT.format(output))
    return 0


def benchmark_score(
    folder: parameters.Submission,
    tasks: parameters.ExportedTasks,
    name: parameters.SystemName,
    model: parameters.SystemModel = "",
    recognizer: parameters.Recognizers = [],  # noqa: B006 - typer's default of an option that may be repeated
    inception: parameters.InceptionFile = None,
    dinov2: parameters.Dinov2Folder = None,
    face_quality: parameters.FaceQualityFile = None,
    clip: parameters.ClipFolder = None,
    partial: parameters.Partial = False,
    output: parameters.ResultsFolder = None,
) -> int:
    """Check and score the images that a system made, and add its row to the table of all systems.

    Images that are missing, extra, broken or of another size are named, and nothing is scored. The table goes to stdout; all
    scores, differences between systems with corrected p-values, and a page go to the folder of results.
    """
    from tenth.evaluation.extractors.loading import NetworkSources
    from tenth.experiments.benchmark.judges import load_judges
    from tenth.experiments.benchmark.run import check_system, score_folder
    from tenth.experiments.benchmark.scoring import SystemName
    from tenth.experiments.benchmark.tasks import read_benchmark

    # What the user may have to mend comes first.
    system = SystemName(name, model)
    check_system(system)
    exported = read_benchmark(tasks)
    judges = load_judges(recognizer, sources=NetworkSources(inception or "", dinov2 or "", face_quality or ""), clip=clip)
    if not recognizer:
        print_message(DLIB_NOTE)
    print_result(score_folder(folder, exported, system, judges, output or tasks / "results", partial=partial).rstrip())
    return 0
