"""Training baselines with TRL: a few steps move the policy, a folder is a complete policy, a fragment is not ended."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs.export_pairs.pair_export import export_pairs
from jobs.export_pairs.prompt_text import prompt_text
from jobs.train_baselines.__main__ import main
from jobs.train_baselines.config import EMBEDDED_POLICY
from jobs.train_baselines.gold_pairs import gold_pairs
from jobs.train_baselines.grid import load_policy
from jobs.train_baselines.trl_training import with_marks, without_added_end
from pipeline.config.loading import load_config
from tests.jobs.test_export_pairs import GOOD, run_of

ASSETS = Path(EMBEDDED_POLICY).parent
SMALL = ["num_threads=1", "validation_prompts=4", "sft.num_pairs=[8]", "dpo.num_pairs=[8]", "batch_size=4"]

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL's own use of transformers' older names


def test_pairs_are_the_policys_own_and_the_seed_fixes_them():
    policy, tokenizer = load_policy(Path(EMBEDDED_POLICY))
    pairs = gold_pairs(policy, tokenizer, 3, seed=5)
    policy, tokenizer = load_policy(Path(EMBEDDED_POLICY))
    assert gold_pairs(policy, tokenizer, 3, seed=5) == pairs
    assert len({pair["prompt"][-1]["content"] for pair in pairs}) == 3
    assert all(pair["chosen"] != pair["rejected"] for pair in pairs)


def test_both_baselines_are_complete_policies_that_moved(tmp_path):
    assert main([f"output={tmp_path / 'out'}", *SMALL]) == 0
    tried = json.loads((tmp_path / "out/baselines.json").read_text())
    before = AutoModelForCausalLM.from_pretrained(EMBEDDED_POLICY).state_dict()
    template = AutoTokenizer.from_pretrained(EMBEDDED_POLICY).chat_template
    for method in ("sft", "dpo"):
        folder = tmp_path / "out" / method
        policy = AutoModelForCausalLM.from_pretrained(folder)
        assert any(not torch.equal(before[name], value) for name, value in policy.state_dict().items())
        assert policy.generation_config.eos_token_id == 1
        assert AutoTokenizer.from_pretrained(folder).chat_template == template
        assert [entry["is_kept"] for entry in tried[method]] == [True]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["baselines.json", "dpo", "pairs.parquet", "sft"]


def test_exported_segments_train_and_fragments_are_not_ended(tmp_path):
    run, pairs = run_of(tmp_path / "run", [GOOD] * 4, prompt=["Q"] * 4), str(tmp_path / "pairs.jsonl")
    export_pairs(run, pairs, "segment")
    assert main([f"output={tmp_path / 'out'}", f"pairs={pairs}", "methods=[dpo]", *SMALL]) == 0
    ids = {"chosen_ids": [7, 8, 1], "rejected_ids": [7, 9, 1]}
    marked = with_marks({"prompt": "p", "chosen": "a b<|end|>", "rejected": "a c"}, "<|end|>")
    assert without_added_end(ids | marked) == {"chosen_ids": [7, 8, 1], "rejected_ids": [7, 9]}


def test_a_file_that_holds_no_pairs_exits_2_with_one_line(tmp_path, capsys):
    Dataset.from_list([{"prompt": "a", "answer": "b"}]).to_parquet(tmp_path / "no.parquet")
    assert main([f"output={tmp_path / 'out'}", f"pairs={tmp_path / 'no.parquet'}", *SMALL]) == 2
    assert "holds no rows with the columns chosen, prompt, rejected" in capsys.readouterr().err


def test_text_prompts_are_what_the_policy_reads():
    models = [f"policy.model={ASSETS / 'policy'}", f"reward.model={ASSETS / 'reward'}"]
    config = load_config(None, ["input=in", "output=out", "strategy=vanilla", *models])
    rendered = prompt_text(config)
    assert rendered.prompt_text([{"role": "user", "content": "Hi"}]) == "<|user|>Hi<|end|><|assistant|>"
    assert rendered.end_token == "<|end|>"


def test_a_wrong_knob_exits_2_with_one_line(tmp_path, capsys):
    assert main([f"output={tmp_path / 'out'}", "dpo.learning_rat=[1e-4]"]) == 2
    assert "dpo.learning_rat: unknown key; did you mean 'dpo.learning_rate'?" in capsys.readouterr().err
