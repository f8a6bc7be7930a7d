"""python move.py ROOT: rewrite src/tenth into the new tree, and imports everywhere. Deterministic; run on a clean checkout."""
import ast, json, re, sys, shutil, subprocess
from collections import defaultdict
from pathlib import Path

ROOT = Path(sys.argv[1]); SRC = ROOT / "src"
HERE = Path(__file__).parent
MODULES = json.load(open(HERE / "module-map.json"))
DEFS = {k: v for k, v in json.load(open(HERE / "definition-map.json")).items() if "." not in k.split(":")[1]}
EXTRA = json.load(open(HERE / "extra.json"))
MODULES |= EXTRA["modules"]; DEFS |= EXTRA["defs"]
DOCS = EXTRA["docstrings"]
PACKAGE_INITS = {"tenth.adapt","tenth.aggregate","tenth.data","tenth.encode","tenth.evaluate","tenth.pocket","tenth.report","tenth"}

def name_of(path):
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

class Mod: pass
olds = {}
for path in sorted((SRC / "tenth").rglob("*.py")):
    name = name_of(path)
    m = Mod(); m.name = name; m.path = path; m.text = path.read_text(); m.lines = m.text.splitlines(); m.tree = ast.parse(m.text)
    olds[name] = m
missing = [n for n in olds if n not in MODULES and n not in PACKAGE_INITS]
if missing: sys.exit(f"no place for: {missing}")

def defined(node):
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)): return [node.name]
    if isinstance(node, ast.Assign):
        return [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name): return [node.target.id]
    if isinstance(node, ast.TypeAlias) if hasattr(ast, "TypeAlias") else False: return [node.name.id]
    if isinstance(node, (ast.If, ast.Try)):
        return [x for b in ast.walk(node) if isinstance(b,(ast.Assign,ast.FunctionDef,ast.ClassDef)) for x in defined(b)]
    return []

for m in olds.values():
    m.segments = []; m.imports = []; m.guarded = []; m.doc = ast.get_docstring(m.tree, clean=False)
    previous = 0
    for node in m.tree.body:
        start = min([node.lineno] + [d.lineno for d in getattr(node, "decorator_list", [])]) - 1
        lead = start
        while lead > previous and (m.lines[lead-1].startswith("#")): lead -= 1
        end = node.end_lineno
        # trailing "# fmt: on"
        while end < len(m.lines) and m.lines[end].startswith("# fmt: on"): end += 1
        if isinstance(node, (ast.Import, ast.ImportFrom)): m.imports.append(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant): pass
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test): m.guarded += [n for n in node.body]
        else: m.segments.append((defined(node), lead, end, node))
        previous = end
    m.names = {n: s for s in m.segments for n in s[0]}

def home(old, name):
    return DEFS.get(f"{old}:{name}", MODULES.get(old, old))

def from_lines(module, pairs, here=None):
    """from-imports of old module's names, rewritten. pairs: (name, asname)."""
    groups = defaultdict(list)
    for name, alias in pairs:
        if f"{module}.{name}" in olds and name not in (olds[module].names if module in olds else {}):  # a module
            new = MODULES.get(f"{module}.{name}", f"{module}.{name}")
            pkg, _, last = new.rpartition(".")
            wanted = alias or name
            groups[pkg].append(last if last == wanted else f"{last} as {wanted}")
            continue
        target = home(module, name)
        if target == here and not alias: continue
        groups[target].append(f"{name} as {alias}" if alias else name)
    return [f"from {t} import {', '.join(sorted(ns))}" for t, ns in sorted(groups.items())]

def rewrite_import(node, here=None):
    if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tenth" and node.level == 0:
        return from_lines(node.module, [(a.name, a.asname) for a in node.names], here)
    if isinstance(node, ast.Import) and any(a.name.split(".")[0] == "tenth" for a in node.names):
        return [f"import {MODULES.get(a.name, a.name)}" + (f" as {a.asname}" if a.asname else "") for a in node.names]
    return None

DOTTED = re.compile(r"\btenth(?:\.[A-Za-z_]\w*)+")
def dotted(match):
    text = match.group(0); parts = text.split(".")
    for k in range(len(parts), 1, -1):
        head = ".".join(parts[:k])
        if head in MODULES:
            rest = parts[k:]
            target = home(head, rest[0]) if rest else MODULES[head]
            return ".".join([target, *rest])
    return text
LAZY = re.compile(r"\btenth(?:\.[A-Za-z_]\w*)+:\w+")
def lazy(match):
    module, name = match.group(0).split(":")
    return f"{home(module, name)}:{name}" if module in MODULES else match.group(0)

def rewrite_text(text, here=None, strings=True):
    """Imports anywhere in a piece of code, and dotted names in strings."""
    tree = ast.parse(text); lines = text.split("\n"); edits = []
    for node in ast.walk(tree):
        new = rewrite_import(node, here) if isinstance(node, (ast.Import, ast.ImportFrom)) else None
        if new is not None: edits.append((node.lineno-1, node.end_lineno, node.col_offset, new))
    for start, end, col, new in sorted(edits, reverse=True):
        comment = ""
        found = re.search(r"#.*$", lines[end-1])
        if found: comment = "  " + found.group(0)
        lines[start:end] = [" "*col + each + comment for each in new]
    text = "\n".join(lines)
    if strings:
        text = LAZY.sub(lazy, text)
        # dotted names left (strings, docstrings, attribute access after `import tenth.x`); from-imports are already new
        out = []
        for line in text.split("\n"):
            if re.match(r"\s*(from|import) ", line): out.append(line)
            else: out.append(DOTTED.sub(dotted, line))
        text = "\n".join(out)
    return text

# --- compose
news = defaultdict(list)  # new -> list of (old, segments)
for m in olds.values():
    if m.name in PACKAGE_INITS: continue
    per = defaultdict(list)
    for s in m.segments:
        homes = {home(m.name, n) for n in s[0]} or {MODULES[m.name]}
        if len(homes) > 1: print("split segment", m.name, s[0], homes)
        per[sorted(homes)[0]].append(s)
    if not m.segments: per[MODULES[m.name]] = []
    for new, segments in per.items(): news[new].append((m.name, segments))

private = []
written = {}
for new, parts in sorted(news.items()):
    parts.sort(key=lambda p: (MODULES[p[0]] != new, -sum(s[2]-s[1] for s in p[1])))
    if new in EXTRA.get("last_first", []): parts.reverse()
    main = next((olds[p[0]] for p in parts if MODULES[p[0]] == new), None)
    doc = DOCS.get(new) or (main.doc if main else None)
    if doc is None: print("no docstring:", new, [(o, [s[0] for s in ss]) for o, ss in parts]); doc = "TODO."
    imports, guarded, bodies = [], [], []
    for old, segments in parts:
        m = olds[old]
        code = "\n\n\n".join("\n".join(m.lines[s[1]:s[2]]) for s in segments)
        for node in m.imports:
            again = rewrite_import(node, new)
            imports += again if again is not None else ["\n".join(m.lines[node.lineno-1:node.end_lineno])]
        for node in m.guarded:
            again = rewrite_import(node, new) if isinstance(node,(ast.Import, ast.ImportFrom)) else None
            guarded += again if again is not None else [ast.get_source_segment(m.text, node)]
        used = {n.id for s in segments for n in ast.walk(s[3]) if isinstance(n, ast.Name)}
        used |= {w for s in segments for n in ast.walk(s[3]) if isinstance(n, ast.Constant) and isinstance(n.value, str) for w in re.findall(r"\w+", n.value)} & set()
        for n in sorted(used & set(m.names)):
            target = home(old, n)
            if target != new:
                imports.append(f"from {target} import {n}")
                if n.startswith("_"): private.append(f"{new} takes {n} from {target}")
        bodies.append((old, segments))
    text = f'"""{doc}"""\n\nfrom __future__ import annotations\n\n'
    seen = []
    for i in imports:
        if i not in seen and "__future__" not in i: seen.append(i)
    text += "\n".join(seen) + "\n"
    if guarded:
        text += "\nfrom typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n" + "\n".join("    " + g for g in dict.fromkeys(guarded)) + "\n"
    for old, segments in bodies:
        m = olds[old]
        previous = None
        for s in segments:
            # assignments that stood together stay together
            gap = "\n\n\n"
            if previous is not None and s[1] - previous <= 1: gap = "\n" * (s[1]-previous+1)
            code = rewrite_text("\n".join(m.lines[s[1]:s[2]]), new)
            text += gap + code if previous is not None else "\n\n\n" + code
            previous = s[2]
        text += "\n"
    # bring function-level imports and strings up to date
    head, sep, _ = text.partition("\n\n\n")
    written[new] = text

inits = {n: olds[n].text for n in PACKAGE_INITS if n in olds}
for m in olds.values(): m.path.unlink()
for new, text in written.items():
    path = SRC / (new.replace(".", "/") + ".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
for name, doc in EXTRA["packages"].items():
    path = SRC / name.replace(".", "/") / "__init__.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'"""{doc}"""\n\n__all__: list[str] = []\n' if name in EXTRA["packages"] else "")
(SRC / "tenth/__init__.py").write_text(rewrite_text(inits["tenth"]))
for old, new in EXTRA["assets"].items():
    source, target = ROOT / old, ROOT / new
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "-C", str(ROOT), "mv", old, new], check=True)
# --- the rest of the project
PATHS = {o.replace(".", "/") + ".py": n.replace(".", "/") + ".py" for o, n in MODULES.items()}
ASSETS = sorted(EXTRA["paths"].items(), key=lambda p: -len(p[0]))
def paths(text):
    for o, n in ASSETS: text = re.sub(re.escape(o), n, text)
    return re.sub(r"(?:src/)?tenth/[\w/]+\.py", lambda m: (("src/" if m.group(0).startswith("src/") else "") + PATHS.get(m.group(0).removeprefix("src/"), m.group(0).removeprefix("src/"))), text)
files = subprocess.run(["git","-C",str(ROOT),"ls-files"],capture_output=True,text=True).stdout.split()
for f in files:
    p = ROOT / f
    if not p.exists() or f.startswith("src/tenth") and f.endswith(".py"): continue
    if f.endswith(".py"):
        t = p.read_text(); n = paths(rewrite_text(t))
    elif f.endswith((".md",".toml",".json","Makefile",".txt",".sh",".gitignore")) and f not in ("docs/log.md",) and not f.startswith(("results/","tests/report/earlier")) and "tokenizer" not in f:
        t = p.read_text()
        n = paths(DOTTED.sub(dotted, LAZY.sub(lazy, t))) if not f.endswith("definition-map.json") else t
    else: continue
    if n != t: p.write_text(n)
print("\n".join(sorted(set(private))))
