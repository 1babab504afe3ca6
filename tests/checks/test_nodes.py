"""How engines and groups of GPUs lie on the nodes of a cluster."""

import pytest
from cluster_configs import TEACHER, config, refused

from prefix_opd.checks import cluster


@pytest.mark.parametrize(
    ("nodes", "gpus", "parallel", "told"),
    [
        (2, 6, 4, "=4: puts an engine on GPUs 4 to 7, and a node has 6 GPUs; let it divide 6 or be a multiple of it"),
        (3, 4, 6, "=6: puts an engine on GPUs 0 to 5, and a node has 4 GPUs"),
        (2, 4, 8, ""),
        (2, 4, 2, ""),
    ],
)
def test_no_engine_lies_on_more_nodes_than_it_must(nodes, gpus, parallel, told):
    for pool, key in (("trainer", "actor_rollout_ref.rollout"), ("distillation", TEACHER)):
        changed = {f"{pool}__nnodes": nodes, f"{pool}__n_gpus_per_node": gpus}
        made = config(**changed, **{f"{key}.tensor_model_parallel_size": parallel})
        if told:
            assert f"{key}.tensor_model_parallel_size{told}" in refused(cluster.check_parallel_sizes, made)
        else:
            cluster.check_parallel_sizes(made)


@pytest.mark.parametrize(("sizes", "told"), [((2, 4, 2), "GPUs 2 to 5, and a node has 4 GPUs"), ((2, 2, 4), "")])
def test_several_teachers_lie_behind_one_another(sizes, told):
    theirs = {
        f"t{i}": {"key": f"k{i}", "num_replicas": 1, "inference": {"tensor_model_parallel_size": size}}
        for i, size in enumerate(sizes)
    }
    made = config(distillation__n_gpus_per_node=4, distillation__teacher_models=theirs)
    if told:
        line = refused(cluster.check_parallel_sizes, made)
        assert "t1.inference.tensor_model_parallel_size=4" in line and told in line
        assert line.endswith("or name the teachers in another order")
    else:
        cluster.check_parallel_sizes(made)


def test_a_cluster_with_too_little_in_all():
    assert "33 free CPUs: the run asks it for 34" in refused(cluster.check_running_cluster, config(), [(33, 8)])
    cluster.check_running_cluster(config(), [(34, 8)])
    told = refused(cluster.check_running_cluster, config(), [(34, 2), (0, 2)])
    assert told.startswith("the Ray cluster has 4 free GPUs: the run asks for 8: 4 for the student")
    assert "set prefix_opd.teacher.placement=shared" in told


@pytest.mark.parametrize(
    ("nodes", "fits"),
    [
        # groups of 4 GPUs (the student's), 2 and 2 (the teacher's), each on one node with 3 CPUs a GPU and one more
        ([(40, 4), (40, 4)], True),
        ([(13, 4), (10, 2), (11, 2)], True),
        ([(12, 4), (13, 4), (9, 0)], False),  # CPUs for 3 GPUs on the first node: it takes one group of 2
        ([(40, 3), (40, 3), (40, 2)], False),
        ([(40, 4), (40, 3), (40, 1)], False),
        ([(40, 6), (40, 2)], True),
        ([(40, 5), (40, 3)], False),
    ],
)
def test_each_group_of_gpus_lies_on_one_node(nodes, fits):
    if fits:
        cluster.check_running_cluster(config(), nodes)
    else:
        told = refused(cluster.check_running_cluster, config(), nodes)
        assert (
            ": the run asks for 1 x (4 GPUs, 13 CPUs), 2 x (2 GPUs, 7 CPUs), each on one node; end other jobs" in told
        )


def test_the_free_nodes_are_named():
    sixteen = config(trainer__n_gpus_per_node=16, distillation__enabled=False)
    told = refused(cluster.check_running_cluster, sixteen, [(64, 8), (64, 8), (64.0, 1)])
    assert told.startswith(
        "the Ray cluster has free nodes of 2 x (8 GPUs, 64 CPUs), 1 x (1 GPU, 64 CPUs): the run asks"
    )
