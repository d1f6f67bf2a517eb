"""Writes golden.json: templates in the style of well-known ones, rendered by jinja2 as transformers sets it up.

    python golden.py      (jinja2 3.1)
"""
import json

from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATES = {
    "chatml": ("", "<|im_end|>", "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"),
    "chatml-default-system": ("", "<|im_end|>", "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content']}}{% if (loop.last and add_generation_prompt) or not loop.last %}{{ '<|im_end|>' + '\n'}}{% endif %}{% endfor %}{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}{{ '<|im_start|>assistant\n' }}{% endif %}"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>", "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"),
    "zephyr": ("<s>", "</s>", """{% for message in messages %}
    {% if message['role'] == 'user' %}
        {{- '<|user|>\n' + message['content'] + eos_token }}
    {% elif message['role'] == 'system' %}
        {{- '<|system|>\n' + message['content'] + eos_token }}
    {% elif message['role'] == 'assistant' %}
        {{- '<|assistant|>\n'  + message['content'] + eos_token }}
    {% endif %}
    {% if loop.last and add_generation_prompt %}
        {{- '<|assistant|>' }}
    {% endif %}
{% endfor %}
"""),
    "mistral": ("<s>", "</s>", """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate user/assistant/...') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.first and system_message is defined %}
            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- ' [INST] ' + message['content'] + ' [/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] + eos_token}}
    {%- else %}
        {{- raise_exception('unknown role') }}
    {%- endif %}
{%- endfor %}
"""),
    "namespace": ("<bos>", "<eos>", """{%- set ns = namespace(turn=0, system='') -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}{%- set ns.system = message.content.strip() -%}
    {%- else -%}
        {%- set ns.turn = ns.turn + 1 -%}
        {%- set role = 'model' if message.role == 'assistant' else message.role -%}
        {{ '<start_of_turn>' ~ role ~ ' ' ~ ns.turn }}
{{ ns.system if ns.turn == 1 else '' }}{{ message.content | trim }}<end_of_turn>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"""),
}
S, U, A = ({"role": r} for r in ("system", "user", "assistant"))
CONVERSATIONS = [
    [U | {"content": "Why is the sky blue?"}],
    [S | {"content": "Be brief.\n"}, U | {"content": "  Two\nlines  "}],
    [U | {"content": "a"}, A | {"content": "b"}, U | {"content": "c <|im_end|> {{ 7 * 7 }} {% raw %}"}],
    [S | {"content": "s"}, U | {"content": "Grüße, \u4f60\u597d 🐝 'quoted' \"twice\" \\n &<>"}, A | {"content": "Das ist\n\ngut. "}],
    [A | {"content": "out of turn"}, U | {"content": "x"}],
]


def raise_exception(message):
    raise TemplateError(message)


def main():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    env.globals["raise_exception"] = raise_exception
    out = []
    for name, (bos, eos, source) in TEMPLATES.items():
        renders = []
        for messages in CONVERSATIONS:
            for ask in (True, False):
                try:
                    want, error = env.from_string(source).render(messages=messages, add_generation_prompt=ask, bos_token=bos, eos_token=eos), ""
                except TemplateError as e:
                    want, error = "", str(e)
                renders.append({"messages": messages, "ask": ask, "want": want, "error": error})
        out.append({"name": name, "config": {"chat_template": source, "bos_token": bos or None, "eos_token": {"content": eos}}, "renders": renders})
    with open("golden.json", "w") as f:
        json.dump(out, f, indent=1, ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main()
