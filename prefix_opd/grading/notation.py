"""Convert Unicode symbols, plain text and LaTeX style commands to plain LaTeX."""

from __future__ import annotations

import re
import unicodedata

COMMANDS = (
    r"text|textbf|textit|textrm|textsf|texttt|textsc|textup|textnormal|emph|mbox|hbox|mathrm|mathbf|mathit|mathsf|"
    r"mathtt|boldsymbol|bm|underline|ensuremath|operatorname\*?"
)
"""Commands for the style of their argument, or for text."""

_NAMES = (
    r"arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|csc|ln|log|exp|gcd|lcm|max|det|"
    r"(?:sec|min)(?=\s*\}?\s*[({\\^_\w])"  # 90 sec and 5\text{ min} are units: a function has an argument
)
_ENVIRONMENTS = r"aligned|align\*?|gathered|equation\*?|split"

_SYMBOLS = {
    ord(symbol): latex
    for symbols, latex in {
        "−–‐‑": "-", "×": r"\times ", "·⋅∙": r"\cdot ", "÷∕": "/", "±": r"\pm ", "∓": r"\mp ", "≤⩽": r"\le ",
        "≥⩾": r"\ge ", "≠": r"\neq ", "≈": r"\approx ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
        "∅": r"\emptyset ", "∖": r"\setminus ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}",
        "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "°": r"^\circ ", "⟨": r"\langle ", "⟩": r"\rangle ", "⌊": r"\lfloor ",
        "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "∠": r"\angle ", "∣": "|", "…": r"\ldots ",
        "∶": ":", "€£¥₹": "", "\u200b\u200c\u200d\u2060\ufeff": "",
    }.items()
    for symbol in symbols
}  # fmt: skip
_SYMBOLS |= {
    ord(letter): rf"\{name if letter.islower() else name.capitalize()} "
    for name, letters in {
        "alpha": "α", "beta": "β", "gamma": "γΓ", "delta": "δΔ", "epsilon": "ε", "theta": "θΘ", "lambda": "λΛ",
        "mu": "μµ", "xi": "ξ", "pi": "πΠ", "rho": "ρ", "sigma": "σΣ", "tau": "τ", "phi": "φϕΦ", "omega": "ωΩ",
    }.items()
    for letter in letters
}  # fmt: skip
_RAISED = re.compile(r"[⁰¹²³⁴-⁹⁺⁻ⁿ]+")
_VULGAR = re.compile(r"[¼-¾⅐-⅞]")
_OVERLINED = re.compile("(?:\\d\u0305)+")
_LOWERED = re.compile(r"[₀-₉]+")

_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # layout
        (r"\\(?:textcolor|color|colorbox)\s*(?:\[\w*\])?\s*\{[^{}]*\}", ""),
        (r"\\(?:[hv]space|h?phantom|tag|label)\*?\s*\{[^{}]*\}", ""),
        (rf"\\(?:begin|end)\s*\{{(?:{_ENVIRONMENTS})\}}", ""),
        (r"\\(?:left|right|middle)(?![A-Za-z])\s*\.?|\\[bB]igg?[lrm]?(?![A-Za-z])", ""),
        (r"\\(?:(?:display|text|script)style|[lL]arge|LARGE|[hH]uge|normalsize|limits|bf|rm|it)(?![A-Za-z])", ""),
        (r"\\(?:checkmark|blacksquare|square|Box|qed)(?![A-Za-z])\s*$", ""),
        (r"\\q?quad(?![A-Za-z])|(?<!\\)\\[ ;:,]|~", " "),
        (r"\\(?:pounds|euro|yen|texteuro|cents?)(?![A-Za-z])|(?<!\\)\\[!()\[\]]|\\\$|\$|(?<=\\\\)\[\d+\s?[a-z]+\]", ""),
        # synonyms
        (r"(\\[A-Za-z]+)(?=\d)", r"\1 "),
        (r"\\[lc]?dots(?![A-Za-z])|\.\.\.", r"\\ldots "),
        (r"\+/-", r"\\pm "),
        (r"(^|[\s=(,])\^\{(\d)\}\s*√", r"\1∜\2"),
        (r"∜(\d)\s*\(?(\w+)\)?", r"\\sqrt[\1]{\2}"),
        (r"(?<![A-Za-z\\])C\(\s*(\d+)\s*,\s*(\d+)\s*\)", r"\\binom{\1}{\2}"),
        (r"^\]([^\[\]()]*)\[$", r"(\1)"),
        (r"^(\d+)\s*(?:to|\\text\s*\{\s*to\s*\})\s*(\d+)$", r"\1:\2"),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        (r"\\leq(?:slant|q)?(?![A-Za-z])|<=", r"\\le "),
        (r"\\geq(?:slant|q)?(?![A-Za-z])|>=", r"\\ge "),
        (r"\\ne(?![A-Za-z])|!=", r"\\neq "),
        (r"\\lbrace(?![A-Za-z])", r"\\{"),
        (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}", r"\\emptyset "),
        (r"\{:\}|\\colon(?![A-Za-z])", ":"),
        (r"\\degree(?![A-Za-z])|\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})(?:\s*[CF]\b)?", r"^\\circ "),
        (rf"\\(?:{COMMANDS})\s*\{{\s*({_NAMES})\s*\}}", r"\\\1 "),
        (r"\\begin\s*\{(?:array|smallmatrix|[bB]?matrix)\}(?:\s*\{[clr| ]*\})?", r"\\begin{pmatrix}"),
        (r"\\end\s*\{(?:array|smallmatrix|[bB]?matrix)\}", r"\\end{pmatrix}"),
        (r"[(\[]\s*(\\begin\{pmatrix\}.*\\end\{pmatrix\})\s*[)\]]", r"\1"),
        # plain text
        (rf"(?<![\\A-Za-z])({_NAMES}|pi|infty|theta|alpha|beta)(?![A-Za-z{{}}])", r"\\\1 "),
        (r"(?<![\\A-Za-z])infinity(?![A-Za-z])", r"\\infty "),
        (r"(?:√|(?<![\\A-Za-z])sqrt)\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(?:√|(?<![\\A-Za-z])sqrt)\s*(\d+(?:\.\d+)?|[A-Za-z]|\\[a-z]+)", r"\\sqrt{\1}"),
        (r"√|(?<![\\A-Za-z])sqrt(?=\s*\{)", r"\\sqrt"),
        (r"∛\s*\(?(\w+)\)?", r"\\sqrt[3]{\1}"),
        (r"\*\*", "^"),
        (r"\^\s*\(([^()]*)\)|\^\s*([-+]?\d{2,}|[-+]\w)", r"^{\1\2}"),
        (r"(?i:\s*per\s?cent(?:age)?\b)|\\text\s*\{\s*(?:\\?%|per\s?cent)\s*\}", "%"),
        # arguments without braces
        (r"\\(frac|binom)\s*(\d)\s*(\d)(?!\d)", r"\\\1{\2}{\3}"),
        (r"\\sqrt\s*([\dA-Za-z])", r"\\sqrt{\1}"),
        (r"(\d+|[A-Za-z])!\s*\^", r"(\1!)^"),
        (r"\{?([\w+-]+)\s*\\choose\s*([\w+-]+)\}?", r"\\binom{\1}{\2}"),
        (r"\{(\d+)⁄(\d+)\}|(\d+)⁄(\d+)", r"\\frac{\1\3}{\2\4}"),
        (r"(\d)\s+(\d+)/(\d+)(?![\d/])", r"\1\\frac{\2}{\3}"),
    )
]  # fmt: skip


def plain_latex(text: str) -> str:
    """The text in plain LaTeX. \\text{} and similar commands stay: they separate a unit from a product of variables."""
    text = text.translate(_SYMBOLS)
    text = _RAISED.sub(lambda run: f"^{{{unicodedata.normalize('NFKC', run[0]).replace('−', '-')}}}", text)
    text = _LOWERED.sub(lambda run: f"_{{{unicodedata.normalize('NFKC', run[0])}}}", text)
    text = _OVERLINED.sub(lambda run: rf"\overline{{{run[0].replace(chr(0x305), '')}}}", text)
    text = _VULGAR.sub(
        lambda sign: "\\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", sign[0]).split("⁄")), text
    )
    text = unicodedata.normalize("NFKC", text)  # full width, the letters of mathematics
    text = re.sub(r"\\\\(?=[A-Za-z]{2})", r"\\", text)  # \\\\frac, escaped twice
    if "matrix" not in text and "array" not in text and "cases" not in text:
        text = re.sub(r"\\\\\s*(?=\S)(?!\\end)", ", ", text.rstrip("\\ ")).replace("&", "")
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text.strip()
