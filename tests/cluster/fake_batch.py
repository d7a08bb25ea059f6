"""Commands of batch systems that behave as far as launchers can tell, and really run what is submitted.

Run as ``python -c "import fake_batch; fake_batch.main()" <command> <its arguments>``, so that it is compiled once: launchers ask often.
State is kept in the folder ``$FAKE_BATCH``. A file ``full`` there lets jobs wait, a file ``refuse`` turns them away with its text, a file
``down`` makes the queries fail.
"""

from __future__ import annotations

import os
import sys


class Late:
    """A module that is imported where it is needed: most commands are queries, and to import these takes longer than to answer."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str):
        return getattr(__import__(self._name), attribute)


class File(str):
    """As much of ``pathlib.Path`` as queries need."""

    __slots__ = ()

    def __truediv__(self, name: str) -> File:
        return File(f"{self}/{name}")

    def exists(self) -> bool:
        return os.path.exists(self)

    def read_text(self) -> str:
        with open(self) as file:
            return file.read()

    def write_text(self, text: str) -> None:
        with open(self, "w") as file:
            file.write(text)


json, re, shlex, signal, time = map(Late, ("json", "re", "shlex", "signal", "time"))
FOLDER = File(os.environ["FAKE_BATCH"])
DIALECT = os.environ.get("FAKE_DIALECT", "")
UNKNOWN = {"slurm": 1, "openpbs": 153, "torque": 153, "lsf": 255, "condor": 1, "hpc": 1}


def fail(text: str, code: int = 1) -> None:
    sys.stderr.write(text + "\n")
    sys.exit(code)


# --- jobs ---------------------------------------------------------------------------------------------------------


class Job:
    def __init__(self, number: int) -> None:
        self.path = FOLDER / f"{number}.json"
        self.number = number
        if not self.path.exists():
            raise KeyError(number)
        self.data = eval(self.path.read_text(), {"true": True, "false": False, "null": None})  # JSON reads as Python

    @classmethod
    def make(cls, tasks: list[dict], **data) -> Job:
        if (FOLDER / "refuse").exists():
            fail((FOLDER / "refuse").read_text().strip(), 32)
        number = 1 + sum(name.endswith(".json") for name in os.listdir(FOLDER))
        (FOLDER / f"{number}.json").write_text(json.dumps({"tasks": tasks, **data}))
        job = cls(number)
        if not (FOLDER / "full").exists():
            for index, task in enumerate(tasks):
                job.run(index, task)
        return job

    def run(self, index: int, task: dict) -> None:
        import subprocess  # queries, of which there are many more, do without

        environment = {**os.environ, **task["environment"]}
        code = FOLDER / f"{self.number}.{index}.code"
        os.makedirs(os.path.dirname(task["output"]), exist_ok=True)
        with open(task["output"], "ab") as output:
            # The first shell outlives the command, to note how it ended; the second one notes that signals reach it.
            inner = shlex.quote(f'echo > "$0"; exec {task["command"]}')
            begun = shlex.quote(FOLDER / f"{self.number}.{index}.begun")
            process = subprocess.Popen(
                ["/bin/sh", "-c", f'trap : TERM USR1\n/bin/sh -c {inner} {begun}\necho $? > "$0"', str(code)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        (FOLDER / f"{self.number}.{index}.pid").write_text(str(process.pid))

    def states(self) -> list[str]:
        """Of each task: ``pending``, ``running``, or its exit code."""
        return [self.state(index) for index in range(len(self.data["tasks"]))]

    def state(self, index: int) -> str:
        code = FOLDER / f"{self.number}.{index}.code"
        if code.exists() and code.read_text().strip():
            return code.read_text().strip()
        if self.data["tasks"][index].get("held"):
            return "held"
        return "running" if (FOLDER / f"{self.number}.{index}.pid").exists() else "pending"

    def delete(self, only: int | None = None) -> None:
        for index, state in enumerate(self.states()):
            if only not in {None, index}:
                continue
            if state == "running":
                self.kill(index, signal.SIGTERM)
            elif state in {"pending", "held"}:
                (FOLDER / f"{self.number}.{index}.code").write_text("271")

    def kill(self, index: int, number: int) -> None:
        begun = FOLDER / f"{self.number}.{index}.begun"
        for _ in range(500):
            if begun.exists():
                break
            time.sleep(0.01)  # a signal now would be lost between the shell and its child
        try:
            os.killpg(int((FOLDER / f"{self.number}.{index}.pid").read_text()), number)
        except ProcessLookupError:
            pass


def find(text: str, unknown: str) -> Job:
    if (FOLDER / "down").exists():
        fail("Connection refused", 111)
    number = text.partition(".")[0].partition("[")[0].partition("_")[0]
    try:
        return Job(int(number) if number.isdigit() else 0)
    except KeyError:
        fail(unknown.format(text), UNKNOWN[DIALECT])
        raise


def directives(script: str, prefix: str) -> dict[str, str]:
    """Options in comments; of those that come twice the last one counts."""
    found = {}
    for line in re.findall(rf"^{re.escape(prefix)}\s+(.*)$", script, re.MULTILINE):
        words = shlex.split(line, comments=True)
        while words:
            option = words.pop(0)
            found[option] = words.pop(0) if words and not words[0].startswith("-") else ""
    return found


def is_ended(state: str) -> bool:
    return state not in {"pending", "running", "held"}


# --- Slurm --------------------------------------------------------------------------------------------------------


def sbatch() -> None:
    script = File(sys.argv[-1]).read_text()
    kept = FOLDER / f"script.{os.getpid()}"
    kept.write_text(script)
    options = directives(script, "#SBATCH")
    options.update(each.split("=", 1) for each in list(options) if "=" in each)
    span = re.fullmatch(r"(\d+)-(\d+)", options.get("--array", ""))
    tasks = [
        {
            "command": f"sh {shlex.quote(str(kept))}",
            "output": options.get("--output", str(FOLDER / "out")),
            "environment": {"SLURM_NTASKS": options.get("--ntasks", "1")},
            "index": index,
        }
        for index in (range(int(span[1]), int(span[2]) + 1) if span else [0])
    ]
    print(f"Submitted batch job {Job.make(tasks, array=bool(span)).number}")


def srun() -> None:
    """Run the command once for each task, and wait for all."""
    import subprocess  # as above

    command = [each for each in sys.argv[1:] if not each.startswith("--kill-on-bad-exit")]
    processes = [subprocess.Popen(command) for _ in range(int(os.environ["SLURM_NTASKS"]))]
    signal.signal(signal.SIGTERM, lambda *_: None)
    sys.exit(max(process.wait() & 0xFF for process in processes))


def squeue() -> None:
    found = find(sys.argv[4].removeprefix("--jobs="), "slurm_load_jobs error: Invalid job id specified")
    words = {"pending": "PENDING", "running": "RUNNING", "0": "COMPLETED", "271": "CANCELLED"}
    for task, state in zip(found.data["tasks"], found.states(), strict=True):
        index = f"_{task['index']}" if found.data["array"] else ""
        code = int(state) << 8 if is_ended(state) and state != "271" else 0
        print(
            f"{found.number}{index}|{words.get(state, 'FAILED')}|{'Resources' if state == 'pending' else 'None'}|{code}|"
        )


def scancel() -> None:
    if sys.argv[1] == "-s":
        found = find(sys.argv[3], "")
        for index in range(len(found.data["tasks"])):
            found.kill(index, int(sys.argv[2]))
        return
    find(sys.argv[1], "").delete()


# --- PBS ----------------------------------------------------------------------------------------------------------


def qsub() -> None:
    path = File(os.path.abspath(sys.argv[-1]))
    script = path.read_text()
    kept = FOLDER / f"script.{os.getpid()}"
    kept.write_text(script)
    options = directives(script, "#PBS")
    right, wrong = ("-J", "-t") if DIALECT == "openpbs" else ("-t", "-J")
    if wrong in options:
        fail(f"qsub: invalid option -- '{wrong[1]}'", 2)
    span = re.fullmatch(r"(\d+)-(\d+)", options.get(right, ""))
    if right in options and (not span or int(span[1]) >= int(span[2])):
        fail("qsub: illegal -J value" if right == "-J" else "qsub: Bad Job Array Request", 168)
    indexes = list(range(int(span[1]), int(span[2]) + 1)) if span else [0]
    number = 1 + sum(name.endswith(".json") for name in os.listdir(FOLDER))
    variable = "PBS_ARRAY_INDEX" if DIALECT == "openpbs" else "PBS_ARRAYID"
    tasks = []
    for index in indexes:
        output = options.get("-o", str(FOLDER / "out"))
        output = output + f"{number}[{index}].head.OU" if output.endswith("/") else output
        environment = {
            "PBS_O_WORKDIR": os.getcwd(),
            "PBS_JOBID": str(number),
            **({variable: str(index)} if span else {}),
        }
        tasks.append(
            {"command": f"sh {shlex.quote(str(kept))}", "output": output, "environment": environment, "index": index}
        )
    job = Job.make(tasks, array=bool(span), queue=options.get("-q", ""))
    print(f"{job.number}{'[]' if span else ''}.head")


def pbs_entries(job: Job) -> dict[str, dict]:
    letters = {"pending": "Q", "running": "R", "held": "H"}
    ended = "F" if DIALECT == "openpbs" else "C"
    entries = {}
    if job.data["array"]:
        is_over = all(map(is_ended, job.states()))
        entries[f"{job.number}[].head"] = {"job_state": ended if is_over else "B"}
    for task, state in zip(job.data["tasks"], job.states(), strict=True):
        entry = {"job_state": letters.get(state, ended)}
        if state == "pending":
            entry["comment"] = "Not Running: Insufficient amount of resource: ncpus"
        if is_ended(state):
            entry["Exit_status" if DIALECT == "openpbs" else "exit_status"] = int(state)
        index = f"[{task['index']}]" if job.data["array"] else ""
        entries[f"{job.number}{index}.head"] = entry
    return entries


def qstat() -> None:
    if "--version" in sys.argv:
        print(
            "pbs_version = 23.06.06"
            if DIALECT == "openpbs"
            else "Version: 6.1.2\nCommit: 661e092552de43a785c15d39a3634a541d86898e"
        )
        return
    job = find(sys.argv[-1], "qstat: Unknown Job Id {}")
    if DIALECT == "openpbs":
        assert sys.argv[1:6] == ["-t", "-x", "-f", "-F", "json"], sys.argv
        print(repr({"pbs_version": "23.06.06", "Jobs": pbs_entries(job)}).replace("'", '"'))  # no word has a quote
        return
    for id, entry in pbs_entries(job).items():
        print(f"Job Id: {id}")
        for key, value in {"Job_Name": "ipengine", **entry}.items():
            print(f"    {key} = {value}")
        print()


def qdel() -> None:
    if DIALECT == "openpbs" and Job(int(re.match(r"\d+", sys.argv[1])[0])).data["array"] and "[" not in sys.argv[1]:
        fail(f"qdel: Unknown Job Id {sys.argv[1]}", 153)
    find(sys.argv[1], "qdel: Unknown Job Id {}").delete()


def qsig() -> None:
    job = find(sys.argv[3], "qsig: Unknown Job Id {}")
    for index, state in enumerate(job.states()):
        if state == "running":
            job.kill(index, int(sys.argv[2]))


# --- LSF ----------------------------------------------------------------------------------------------------------


def bsub() -> None:
    script = sys.stdin.read()
    options = directives(script, "#BSUB")
    kept = FOLDER / f"script.{os.getpid()}"
    kept.write_text(script)
    span = re.search(r"\[(\d+)-(\d+)\]", options.get("-J", ""))
    tasks = [
        {
            "command": f"sh {shlex.quote(str(kept))}",
            "output": options.get("-o", str(FOLDER / "out")),
            "environment": {"LSB_JOBINDEX": str(index)},
            "index": index,
        }
        for index in (range(int(span[1]), int(span[2]) + 1) if span else [0])
    ]
    job = Job.make(tasks, name=options.get("-J", "script").partition("[")[0], array=bool(span))
    print(
        f"Job <{job.number}> is submitted to {'queue' if '-q' in options else 'default queue'} <{options.get('-q', 'normal')}>."
    )


def bjobs() -> None:
    job = find(sys.argv[-1], "Job <{}> is not found")
    words = {"pending": "PEND", "running": "RUN", "0": "DONE"}
    if "-l" in sys.argv:
        for task, state in zip(job.data["tasks"], job.states(), strict=True):
            index = f"[{task['index']}]" if job.data["array"] else ""
            print(
                f"\nJob <{job.number}{index}>, Job Name <{job.data['name']}>, User <me>, Project <default>, Status <{words.get(state, 'EXIT')}>,"
            )
            print(" " * 21 + "Queue <normal>")
            if state == "pending":
                print(" PENDING REASONS:\n Not enough job slots: 1 ho" + "\n" + " " * 21 + "st;\n")
            elif state == "0":
                print("Tue Mar  3 10:00:01: Done successfully. The CPU time used is 0.1 seconds.")
            elif is_ended(state):
                print(f"Tue Mar  3 10:00:01: Exited with exit code {state}. The CPU time used is 0.1 seconds.")
        return
    assert sys.argv[1:3] == ["-a", "-w"], sys.argv  # the dialect of 2013: no -o, no -json
    print("JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME")
    for task, state in zip(job.data["tasks"], job.states(), strict=True):
        name = job.data["name"] + (f"[{task['index']}]" if job.data["array"] else "")
        print(
            f"{job.number}       me      {words.get(state, 'EXIT')}   normal     head        h1          {name}  Mar  3 10:00"
        )


def bkill() -> None:
    if sys.argv[1] == "-s":
        job = find(sys.argv[3], "Job <{}>: No matching job found")
        for index in range(len(job.data["tasks"])):
            job.kill(index, int(sys.argv[2]))
        return
    find(sys.argv[1], "Job <{}>: No matching job found").delete()
    print(f"Job <{sys.argv[1]}> is being terminated")


# --- HTCondor -----------------------------------------------------------------------------------------------------


def condor_submit() -> None:
    text = File(sys.argv[1]).read_text()
    settings = dict(re.findall(r"^\s*(\w+)\s*=\s*(.*)$", text, re.MULTILINE))
    count = int(re.search(r"^queue (\d+)", text, re.MULTILINE)[1])
    arguments = unquoted(settings["arguments"])
    environment = dict(pair.split("=", 1) for pair in unquoted(settings["environment"]))
    executable = settings["executable"]
    held = (
        ""
        if os.path.isabs(executable) and os.access(executable, os.X_OK)
        else f"Failed to execute '{executable}': No such file or directory"
    )
    tasks = [
        {
            "command": shlex.join(
                ["env", "-i", *(f"{k}={v}" for k, v in {**environment, **marks()}.items()), executable, *arguments]
            ),
            "output": settings["output"].replace("$(Process)", str(index)),
            "environment": {},
            "held": held,
        }
        for index in range(count)
    ]
    if held:
        (FOLDER / "full").write_text("")
    job = Job.make(tasks)
    print(f"Submitting job(s){'.' * count}\n{count} job(s) submitted to cluster {job.number}.")


def marks() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in {"ENGINERY_TEST_RUN", "XDG_RUNTIME_DIR", "FAKE_BATCH"}
    }


def unquoted(text: str) -> list[str]:
    """Words of a double-quoted string, in which single quotes keep a word together."""
    words = []
    for name, quoted in re.findall(r"([^\s']*)((?:'[^']*')*)", text.strip()[1:-1].replace('""', '"')):
        words += [name + quoted[1:-1].replace("''", "'")] if name or quoted else []
    return words


def condor_line(job: Job, index: int, state: str) -> str:
    number = {"pending": 1, "running": 2, "held": 5, "271": 3}.get(state, 4)
    code = state if number == 4 else "undefined"
    return f"{job.number} {index} {number} {code} {job.data['tasks'][index]['held'] or 'undefined'}"


def condor_q(*, over: bool = False) -> None:
    if (FOLDER / "down").exists():
        fail("-- Failed to fetch ads from: <10.0.0.1:9618> : head", 1)
    assert sys.argv[2:7] == ["-autoformat", "ClusterId", "ProcId", "JobStatus", "ExitCode"], sys.argv
    try:
        job = Job(int(sys.argv[1]))
    except KeyError:
        return
    for index, state in enumerate(job.states()):
        if is_ended(state) == over:
            print(condor_line(job, index, state))


def condor_history() -> None:
    condor_q(over=True)


def condor_rm() -> None:
    find(sys.argv[1], "Couldn't find/remove all jobs in cluster {}").delete()


# --- Windows HPC Server -------------------------------------------------------------------------------------------


def job() -> None:
    arguments = sys.argv[2:]
    assert any(each.startswith("/scheduler:HEAD") for each in arguments), arguments
    if sys.argv[1] == "submit":
        from xml.etree import ElementTree as ET  # only here

        root = ET.parse(arguments[0].removeprefix("/jobfile:")).getroot()
        space = {"h": "http://schemas.microsoft.com/HPCS2008/scheduler/"}
        tasks = [
            {
                "command": task.get("CommandLine"),
                "output": task.get("StdOutFilePath"),
                "environment": {
                    each[0].text: each[1].text or ""
                    for each in task.findall("h:EnvironmentVariables/h:Variable", space)
                },
            }
            for task in root.findall("h:Tasks/h:Task", space)
        ]
        print(f"Job has been submitted. ID: {Job.make(tasks).number}.")
        return
    found = find(arguments[0], "Job {} not found")
    if sys.argv[1] == "cancel":
        found.delete()
        return
    states = found.states()
    word = (
        "Queued"
        if "pending" in states
        else "Running"
        if "running" in states
        else "Finished"
        if set(states) == {"0"}
        else "Failed"
    )
    print(f"Job ID                          : {found.number}\nState                           : {word}")
    if word == "Queued":
        print("Pending Reason                  : Not enough idle cores")


def main() -> None:
    globals()[sys.argv.pop(1)]()
