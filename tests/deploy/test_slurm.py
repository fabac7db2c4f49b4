"""The batch scripts in deploy/slurm."""

import pytest

from tests.kit.stand_in_slurm import TEMPLATES, StandIn, options

PROGRAM = """
trap 'echo "rank ${RANK:-none} saved"; exit 75' TERM
echo "medgan $* | rank ${RANK:-none}/${WORLD_SIZE:-} local ${LOCAL_RANK:-}/${LOCAL_WORLD_SIZE:-}" \
     "at ${MASTER_ADDR:-}:${MASTER_PORT:-}"
case "$*" in
    *lasting*) touch "$NOTES/ready$$"; while :; do sleep 0.02; done ;;
    *status*) exit "${*: -1}" ;;
esac
"""
WHERE = ("stopped with a checkpoint", "stopped between two scans")


@pytest.fixture
def cluster(tmp_path):
    return StandIn(tmp_path, PROGRAM)


def test_a_training_on_two_nodes_starts_a_process_a_gpu_that_find_each_other(cluster):
    done = cluster.run("train.sbatch", "mine", "-o", "out", nodes="n7,n8", tasks=4)
    assert done.status == 0
    assert not done.requeued
    expected = [f"rank {n}/4 local {n % 2}/2 at 10.0.0.7:24711" for n in range(4)]
    assert sorted(done.text.splitlines()) == [f"medgan train mine -o out | {e}" for e in expected]


@pytest.mark.parametrize(("template", "tasks"), [("train.sbatch", 2), ("shards.sbatch", 1)])
def test_before_the_time_is_over_the_work_is_saved_and_the_job_queued_again(
    cluster, template, tasks
):
    given = ["4", "score"] if template == "shards.sbatch" else []
    done = cluster.run(
        template, *given, "lasting", tasks=tasks, stops=True, ARRAY_TASK_ID="2", RESTART_COUNT="3"
    )
    assert done.status == 0
    assert done.requeued
    assert done.text.count("saved") == tasks


def test_a_job_is_queued_again_after_status_75_alone_and_not_for_ever(cluster):
    def run(status, **more):
        return cluster.run("train.sbatch", "status", str(status), **more)

    assert [run(status).requeued for status in (75, 0, 3, 4, 5, 70, 137)] == [True] + [False] * 6
    assert [run(status).status for status in (3, 4, 5, 70)] == [3, 4, 5, 70]
    assert not run(75, state="COMPLETING").requeued  # somebody has cancelled it
    done = run(75, RESTART_COUNT="100")
    assert (done.status, done.requeued) == (75, False)


def test_all_templates_decide_about_another_turn_alike():
    ends = []
    for name in ("train.sbatch", "shards.sbatch"):
        text = (TEMPLATES / name).read_text()
        ends.append(text[text.index("\njob=$!") :].replace(*WHERE))
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("shards", "task"), [("10", "0"), ("10", "11"), ("score", "1"), ("10", ""), ("0", "0")]
)
def test_an_array_that_does_not_fit_its_shards_is_refused(cluster, shards, task):
    done = cluster.run("shards.sbatch", shards, "score", "model", ARRAY_TASK_ID=task)
    assert done.status == 2
    assert "N is the number of shards, the first is 1" in done.text
    assert "medgan" not in done.text


@pytest.mark.parametrize(("task", "shard"), [("1", "1/10"), ("10", "10/10")])
def test_a_task_of_an_array_works_on_its_shard_whatever_else_is_in_the_array(cluster, task, shard):
    done = cluster.run(
        "shards.sbatch", "10", "score", "a model", "-o", "out", ARRAY_TASK_ID=task,
        ARRAY_TASK_COUNT="1",
    )  # fmt: skip
    assert done.text.startswith(f"medgan score a model -o out --shard {shard} |")
    assert done.status == 0


def test_merging_is_done_where_shards_are_left(cluster, tmp_path):
    assert "no shards are left" in cluster.run("merge.sbatch", str(tmp_path)).text
    (tmp_path / "shards").mkdir()
    assert f"medgan merge {tmp_path} |" in cluster.run("merge.sbatch", str(tmp_path)).text


@pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.sbatch")), ids=lambda p: p.name)
def test_templates_have_what_slurm_must_know_and_no_names(path):
    asked = options(path.name)
    assert {"job-name", "time", "output"} <= asked.keys()
    assert "%j" in asked["output"] or "%A-%a" in asked["output"]
    if path.name != "merge.sbatch":
        assert {"requeue", "signal", "open-mode", "gpus-per-node"} <= asked.keys()
    assert not {"account", "mail-user", "partition", "chdir"} & asked.keys()
