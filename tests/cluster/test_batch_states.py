"""What batch systems say of jobs, as they were seen to say it, read into one form."""

from __future__ import annotations

import pytest

from enginery.cluster.launchers import batch_states as states
from enginery.cluster.launchers.batch_states import Part

SLURM = """\
1_1|FAILED|NonZeroExitCode|256|
1_2|COMPLETED|None|0|
1_3|CANCELLED|None|15|
2|RUNNING|None|0|
3|PENDING|Resources|0|
4|PENDING|JobHeldUser|0|
5|COMPLETING|None|0|
"""

SGE = """\
<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd">
  <queue_info>
    <job_list state="running">
      <JB_job_number>3</JB_job_number>
      <JB_name>ipengine</JB_name>
      <state>r</state>
      <slots>1</slots>
      <tasks>1</tasks>
    </job_list>
    <job_list state="running">
      <JB_job_number>3</JB_job_number>
      <state>t</state>
      <tasks>2</tasks>
    </job_list>
    <job_list state="running">
      <JB_job_number>33</JB_job_number>
      <state>r</state>
    </job_list>
  </queue_info>
  <job_info>
    <job_list state="pending">
      <JB_job_number>3</JB_job_number>
      <state>qw</state>
      <tasks>3-7:2</tasks>
    </job_list>
    <job_list state="pending">
      <JB_job_number>4</JB_job_number>
      <state>Eqw</state>
      <tasks>1,2</tasks>
    </job_list>
  </job_info>
</job_info>
"""

SGE_ERROR = """\
job_number:                 3
error reason          1:      11/21/2026 06:29:13 [0:27782]: error: can't open output file "/nonexistent/x": No such file or directory
scheduling info:            Job is in error state
"""
SGE_PENDING = """\
binding:                    NONE
scheduling info:            (-l num_proc=99) cannot run at host "localhost" because it offers only hl:num_proc=2
"""
SGE_END = """\
==============================================================
qname        all.q
jobnumber    1
taskid       1
failed       100 : assumedly after job
exit_status  137                  (Killed)
==============================================================
jobnumber    1
taskid       2
failed       0
exit_status  3
==============================================================
jobnumber    2
taskid       undefined
failed       26  : opening input/output file
exit_status  0
"""

OPENPBS = """{"timestamp": 1, "pbs_version": "23.06.06", "Jobs": {
  "2[].head": {"job_state": "B", "array": "True"},
  "2[1].head": {"job_state": "F", "Exit_status": 0},
  "2[2].head": {"job_state": "F", "Exit_status": 265},
  "2[3].head": {"job_state": "Q", "comment": "Not Running: Insufficient amount of resource: ncpus"},
  "2[4].head": {"job_state": "R", "comment": "Job run at Sat Nov 21"}
}}"""

TORQUE = """\
Job Id: 7[1].head
    Job_Name = ipengine-1
    job_state = C
    exit_status = 1
    Variable_List = PBS_O_HOME=/home/me,
\tPBS_O_PATH=/bin

Job Id: 7[2].head
    Job_Name = ipengine-2
    job_state = H
    comment = held by its owner
"""

LSF = """\
JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME
7       me      RUN   normal     head        h1          ipengine[1] Mar  3 10:00
7       me      PEND  normal     head        -           ipengine[2] Mar  3 10:00
7       me      EXIT  normal     head        h1          ipengine[3] Mar  3 10:00
8       me      DONE  normal     head        2*h1:h2     ipcontroller Mar  3 10:00
"""
LSF_LONG = """\

Job <7[3]>, Job Name <ipengine[3]>, User <me>, Project <default>, Status <EXIT>,
                     Queue <normal>, Command <#!/bin/sh>
Tue Mar  3 10:00:01: Exited with exit code 143. The CPU time used is 0.1 secon
                     ds.
Tue Mar  3 10:00:01: Completed <exit>; TERM_OWNER: job killed by owner.

Job <7[4]>, Job Name <ipengine[4]>, User <me>, Project <default>, Status <EXIT>,
Tue Mar  3 10:00:01: Exited by signal 9. The CPU time used is 0.1 seconds.

Job <7[5]>, Job Name <ipengine[5]>, Status <DONE>
Tue Mar  3 10:00:01: Done successfully. The CPU time used is 0.1 seconds.
"""
LSF_WAITS = """\
Job <7[2]>, Job Name <ipengine[2]>, User <me>, Status <PEND>
 PENDING REASONS:
 Job slot limit reached: 1 ho
                     st;

 SCHEDULING PARAMETERS:
"""

CONDOR = """\
12 0 2 undefined undefined
12 1 5 undefined Failed to open '/x/out' as standard output: Permission denied
12 2 4 3 undefined
12 3 1 undefined undefined
12 4 3 undefined via condor_rm (by user me)
"""

HPC = """\
Job ID                          : 12
Name                            : IPEngineSet
State                           : Queued
Pending Reason                  : Not enough idle cores
"""


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            states.read_slurm(SLURM),
            [
                Part("1_1", "failed", "FAILED", "NonZeroExitCode", 1),
                Part("1_2", "ended", "COMPLETED", "", 0),
                Part("1_3", "failed", "CANCELLED", "", -15),
                Part("2", "running", "RUNNING"),
                Part("3", "pending", "PENDING", "Resources"),
                Part("4", "held", "PENDING", "JobHeldUser"),
                Part("5", "running", "COMPLETING"),
            ],
        ),
        (
            states.read_sge(SGE, "3"),
            [
                Part("3.1", "running", "running (r)"),
                Part("3.2", "running", "starting (t)"),
                Part("3.3", "pending", "waiting (qw)"),
                Part("3.5", "pending", "waiting (qw)"),
                Part("3.7", "pending", "waiting (qw)"),
            ],
        ),
        (
            states.read_sge(SGE, "4"),
            [Part("4.1", "stuck", "in error (Eqw)"), Part("4.2", "stuck", "in error (Eqw)")],
        ),
        (states.read_sge(SGE, "33"), [Part("33", "running", "running (r)")]),
        (
            states.read_sge_end(SGE_END),
            [
                Part("1.1", "failed", "failed", "", -9),
                Part("1.2", "failed", "failed", "", 3),
                Part("2", "failed", "failed", "opening input/output file", 0),
            ],
        ),
        (
            states.read_openpbs(OPENPBS),
            [
                Part("2[1].head", "ended", "finished", "", 0),
                Part("2[2].head", "failed", "finished", "", -9),
                Part("2[3].head", "pending", "queued", "Not Running: Insufficient amount of resource: ncpus"),
                Part("2[4].head", "running", "running"),
            ],
        ),
        (
            states.read_torque(TORQUE),
            [
                Part("7[1].head", "failed", "completed", "", 1),
                Part("7[2].head", "held", "held", "held by its owner"),
            ],
        ),
        (
            states.read_lsf(LSF),
            [
                Part("7[1]", "running", "RUN"),
                Part("7[2]", "pending", "PEND"),
                Part("7[3]", "failed", "EXIT"),
                Part("8", "ended", "DONE", "", 0),
            ],
        ),
        (
            states.read_lsf_end(LSF_LONG),
            [
                Part("7[3]", "failed", "EXIT", "TERM_OWNER: job killed by owner", 143),
                Part("7[4]", "failed", "EXIT", "", -9),
                Part("7[5]", "ended", "DONE", "", 0),
            ],
        ),
        (
            states.read_condor(CONDOR),
            [
                Part("12.0", "running", "running"),
                Part("12.1", "stuck", "held", "Failed to open '/x/out' as standard output: Permission denied"),
                Part("12.2", "failed", "completed", "", 3),
                Part("12.3", "pending", "idle"),
                Part("12.4", "failed", "removed", "via condor_rm (by user me)"),
            ],
        ),
        (states.read_winhpc(HPC), [Part("12", "pending", "Queued", "Not enough idle cores")]),
        (states.read_winhpc("State : Finished"), [Part("", "ended", "Finished", "", 0)]),
    ],
)
def test_answers(found, expected):
    assert found == expected


def test_reasons():
    assert states.read_sge_reason(SGE_ERROR).endswith(
        'can\'t open output file "/nonexistent/x": No such file or directory'
    )
    assert states.read_sge_reason(SGE_PENDING).startswith("(-l num_proc=99) cannot run at host")
    assert states.read_sge_reason("scheduling info: (Collecting of scheduler job information is not available)") == ""
    assert states.read_lsf_reason(LSF_WAITS) == "Job slot limit reached: 1 host"
    assert states.read_lsf_reason("") == ""


def test_nonsense_is_no_job():
    for read in (states.read_slurm, states.read_torque, states.read_lsf, states.read_lsf_end, states.read_condor):
        assert read("slurm_load_jobs: this is a message of the day | with | bars\n") == []
    assert states.read_winhpc("what?") == []
    assert states.read_sge("<job_list", "3") == []
    with pytest.raises(ValueError, match="Expecting value"):
        states.read_openpbs("qstat: cannot connect")


def test_one_phrase():
    waits = Part("4711", "pending", "PENDING", "Resources")
    runs = Part("4711_1", "running", "RUNNING")
    failed = Part("4711_2", "failed", "FAILED", "NonZeroExitCode", 3)
    killed = Part("4711_3", "failed", "CANCELLED", "", -15)
    assert states.describe("4711", [waits]) == "job 4711 is PENDING: Resources"
    assert states.describe("4711", [runs, runs]) == "job 4711 is RUNNING"
    assert states.describe("4711", [runs, runs, waits]) == "job 4711: 2 RUNNING, 1 PENDING (Resources)"
    assert states.describe("4711", [failed]) == "job 4711 is FAILED: NonZeroExitCode, exit code 3"
    assert states.describe("4711", [killed]) == "job 4711 is CANCELLED: signal 15"
    held = [Part(f"4711.{number}", "stuck", "held", f"error on slot {number // 2}") for number in range(5)]
    assert states.describe("4711", held) == "job 4711 is held: error on slot 0"
    assert states.describe("4711", []) == "job 4711 is not in the queue"


def test_the_outcome_of_a_job_is_that_of_its_worst_part():
    def parts(*codes):
        return [Part("1", "failed" if code else "ended", "", "", code) for code in codes]

    assert states.outcome(parts(0, 0)) == 0
    assert states.outcome(parts(0, 3, 0)) == 3
    assert states.outcome([]) is None
    assert states.outcome([Part("1", "failed", "removed")]) == 1
    assert states.outcome([Part("1", "stuck", "held")]) == 1
