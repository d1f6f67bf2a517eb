"""Writes golden.json: templates in the style of well-known ones, rendered by jinja2 as transformers sets it up.

    python golden.py      (jinja2 3.1)
"""
import json
import re

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
    # What follows has inline ifs wherever Jinja takes them, macros, and the functions that newer templates use.
    "first-prefix": ("<bos>", "<eos>", """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set prefix = (messages[0]['content'] if messages[0]['content'] is string else messages[0]['content'][0]['text']) + '\\n\\n' -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}{%- set turns = messages -%}
{%- endif -%}
{%- for m in turns -%}
    {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("turns are to " ~ ("begin with the user" if loop.first else "alternate")) }}
    {%- endif -%}
    {{ '[' + ('model' if m.role == 'assistant' else m.role) + ']' + (prefix if loop.first else "") }}
    {%- if m['content'] is string -%}
        {{ m['content'] | trim }}
    {%- elif m['content'] is iterable -%}
        {{ raise_exception("parts") }}
    {%- endif -%}
    {{ '[end]\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '[model]\n' }}{%- endif -%}"""),
    "choices": ("<s>", "</s>", """{# (a if b else c) is no matter in a comment, {{ nor here }} #}
{%- set names = {'user': 'U' if messages|length > 1 else 'u', 'assistant': ('A' if eos_token else 'a'), "system": "S if else"} -%}
{%- for m in (messages[1:] if messages[0].role == 'system' else messages) if m.role != 'tool' -%}
{{ names[m.role] if m.role in names else m.role }}:{{ (m.role|upper if loop.first else m.role|title) ~ '|' ~ [1 if loop.last else 2, 3][0] }}
{{- ' one' if loop.index == 1 else ' two' if loop.index == 2 else ' many' }}
{%- set kind = 'long' if m.content|length > 8 else 'short' if m.content|length > 2 else 'tiny' %}
{%- if (true if kind == 'tiny' else false) %} {{ kind }}{% elif ('x' if kind == 'short' else '') %} ({{ kind }}){% endif %}
{{ (m.missing.deeper if m.missing is defined else 'none')|replace('n', 'N') }}{{ (raise_exception('never') if m.content == '\\x00' else '') }}
{{- '' if m.content.startswith(('a', 'b')) else ' ' -}}{{ ('yes' if not add_generation_prompt) or 'no' }}
{% endfor -%}
{% raw %}{{ (a if b else c) }}{% endraw %}
{{ ('ask' if add_generation_prompt else ('tell' if eos_token == '</s>' else 'hush')) if bos_token else '' }}"""),
    "macros": ("<s>", "", """{%- macro turn(role, text='', sep=('; ' if eos_token else ': ')) -%}
{{ role }}{{ sep }}{{ text.replace('\\n', ' / ') }}{{ count((text|length if text|length < 4 else 4)) }}
{%- endmacro -%}
{%- macro count(n) -%}{{ n ~ (',' ~ count(n - 1) if n > 0 else '.') }}{%- endmacro -%}
{%- if tools is not none and tools %}{{ raise_exception('no tools here') }}{% endif -%}
{%- set ns = namespace(last=-1) -%}
{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for m in messages[::-1] -%}{{ turn(m.role, text=m.content.split('b')[-1].strip('\\n')) }}{{ ' <' if loop.revindex0 == ns.last }}
{% endfor -%}
{%- if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}undated{% endif -%}
{%- generation -%}g{%- endgeneration -%}{%- set rest = messages[1:] -%}{{ rest[-1].role if rest else 'alone' }}{{ ('abc' if ns.last else 'd').split('c')[-1] }}{{ (' x' ~ ns.last).strip() }}{{ not ('x').isdigit() }}"""),
}
S, U, A = ({"role": r} for r in ("system", "user", "assistant"))
CONVERSATIONS = [
    [U | {"content": "Why is the sky blue?"}],
    [S | {"content": "Be brief.\n"}, U | {"content": "  Two\nlines  "}],
    [U | {"content": "a"}, A | {"content": "b"}, U | {"content": "c <|im_end|> {{ 7 * 7 }} {% raw %}"}],
    [S | {"content": "s"}, U | {"content": "Grüße, \u4f60\u597d 🐝 'quoted' \"twice\" \\n &<>"}, A | {"content": "Das ist\n\ngut. "}],
    [A | {"content": "out of turn"}, U | {"content": "x"}],
]


# transformers reads the tag by an extension of its own, which renders nothing.
GENERATION = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")


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
                    want, error = env.from_string(GENERATION.sub(lambda m: '{%%%s %s %s%%}' % (m[1], 'endif' if m[2] else 'if true', m[3]), source)).render(
                        messages=messages, tools=None, documents=None, add_generation_prompt=ask, bos_token=bos, eos_token=eos), ""
                except TemplateError as e:
                    want, error = "", str(e)
                renders.append({"messages": messages, "ask": ask, "want": want, "error": error})
        out.append({"name": name, "config": {"chat_template": source, "bos_token": bos or None, "eos_token": {"content": eos}}, "renders": renders})
    with open("golden.json", "w") as f:
        json.dump(out, f, indent=1, ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main()
