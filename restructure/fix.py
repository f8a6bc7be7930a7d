"""python fix.py ROOT: what the move leaves to be mended by hand, as exact replacements; says what did not match."""
import re, sys
from pathlib import Path
ROOT = Path(sys.argv[1])
def sub(path, *pairs):
    p = ROOT / path
    if not p.exists(): print("no file", path); return
    t = p.read_text()
    for a, b in pairs:
        if a not in t: print("no match", path, repr(a[:70])); continue
        t = t.replace(a, b)
    p.write_text(t)
for p in (ROOT/"tests").rglob("test_*.py"):
    depth = len(p.relative_to(ROOT/"tests").parts)
    if depth == 2:
        t = p.read_text(); n = t
        if "\nROOT = Path(__file__).resolve().parents[1]" in n or re.search(r"parents\[1\]( /|\))", n):
            n = re.sub(r"(__file__\)(?:\.resolve\(\))?)\.parents\[1\]", r"\1.parents[2]", n)
        for s in ("processes_run.py","killed_run.py","killed_recipe.py","killed_commands.py"):
            n = n.replace(f'Path(__file__).parent / "{s}"', f'Path(__file__).parents[1] / "{s}"')
        if n != t: p.write_text(n)
sub("src/tenth/evaluation/extractors/face_attributes.py", ('"signs.safetensors"', '"face_attributes.safetensors"'))
sub("pyproject.toml", ('tenth = "tenth.cli.main:main"','tenth = "tenth.cli.main:main"'))
t=(ROOT/"pyproject.toml").read_text()
t=re.sub(r'tenth = "tenth\.cli(\.main)?:main"','tenth = "tenth.cli.main:main"',t)
t=re.sub(r'    "pocket/\*\*/\*\.json",.*?    "web/\*\*/\*\.svg",\n','''    "evaluation/extractors/*.safetensors",
    "models/pocket/**/*.json",
    "models/pocket/**/*.md",
    "models/pocket/**/*.png",
    "models/pocket/**/*.safetensors",
    "models/pocket/**/*.txt",
    "reporting/html/*.css",
    "reporting/html/*.html",
''',t,flags=re.S)
(ROOT/"pyproject.toml").write_text(t)
(ROOT/"src/tenth/cli/__main__.py").write_text('"""`python -m tenth.cli`."""\n\nimport sys\n\nfrom tenth.cli.main import main\n\nif __name__ == "__main__":\n    sys.exit(main())\n')
sub(".gitignore", ("!/src/tenth/pocket/**","!/src/tenth/models/pocket/**\n!/src/tenth/evaluation/extractors/*.safetensors"))
