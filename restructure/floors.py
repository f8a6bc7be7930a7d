import ast,sys
from pathlib import Path
from collections import defaultdict
S=Path(sys.argv[1])/"src"
F={"core":1,"data":2,"models":3,"sampling":4,"evaluation":5,"training":6,"reporting":6,"methods":7,"experiments":8,"cli":9}
bad=[]; arrows=defaultdict(int)
for p in (S/"tenth").rglob("*.py"):
    parts=p.relative_to(S/"tenth").parts
    if len(parts)<2: continue
    a=parts[0]
    for n in ast.walk(ast.parse(p.read_text())):
        mods=[n.module] if isinstance(n,ast.ImportFrom) and n.module else [x.name for x in n.names] if isinstance(n,ast.Import) else []
        for m in mods:
            if m.startswith("tenth."):
                b=m.split(".")[1]
                if b==a: continue
                if b not in F: bad.append((str(p),m)); continue
                arrows[a,b]+=1
                if F[b]>=F[a]: bad.append((str(p.relative_to(S)),n.lineno,m))
print(len(arrows)); print(*bad,sep="\n")
