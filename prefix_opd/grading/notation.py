"""Convert Unicode symbols, plain text and LaTeX style commands to plain LaTeX."""

from __future__ import annotations

import re
import unicodedata

COMMANDS = (
    r"text|textbf|textit|textrm|textsf|texttt|textsc|textup|textnormal|emph|mbox|hbox|mathrm|mathbf|mathit|mathsf|"
    r"mathtt|mathcal|math(?:bin|op|ord|rel)|boldsymbol|bm|underline|underbrace|ensuremath|operatorname\*?"
)
"""Commands for the style of their argument, or for text."""

_NAMES = (
    r"arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|csc|ln|log|exp|gcd|lcm|max|det|"
    r"(?:sec|min)(?=\s*\}?\s*[({\\^_\w])"  # 90 sec and 5\text{ min} are units: a function has an argument
)
_ENVIRONMENTS = r"aligned|align\*?|gathered|equation\*?|split"

_SYNONYMS = {"lbrack": "[", "rbrack": "]", "imath": " i", "jmath": " j", "lg": r"\log_{10}"} | {
    old: rf"\{new}"
    for old, new in re.findall(
        r"(\w+) (\S+)",
        "dfrac frac tfrac frac cfrac frac dbinom binom tbinom binom varepsilon epsilon varphi phi varrho rho "
        "varsigma sigma vartheta theta backslash setminus lbrace { rbrace } triangle Delta wedge land vee lor lnot neg "
        "ne neq leq le leqslant le leqq le geq ge geqslant ge geqq ge varnothing emptyset implies Rightarrow "
        "iff Leftrightarrow",
    )
}
_SYMBOLS = dict.fromkeys(map(ord, "€£¥₹₩₽¢"), "") | {
    ord(symbol): latex + " " * latex[-1].isalpha()
    for symbols, latex in re.findall(
        r"(\S+) (\S+)",
        r"−–—‒‐‑ - ÷∕ / ㎡ m^2 ′ ' ∛ \sqrt[3]√ ∜ \sqrt[4]√ 、 , ٫ . ٬ , ٪ % ∣ | ∶ : ‖ \| °º˚ ^\circ ℝ \mathbb{R} "
        r"ℤ \mathbb{Z} ℕ \mathbb{N} ℚ \mathbb{Q} ℂ \mathbb{C} ∑ \sum ∏ \prod ∫ \int ×✕✖⨯ \times ·⋅∙•∗ \cdot ± \pm "
        r"∓ \mp ≤⩽≦ \le ≥⩾≧ \ge ≠ \neq ≈≃≅ \approx ≡ \equiv ∞ \infty ∪ \cup ∩ \cap ∅Ø \emptyset … \ldots ⟨〈 \langle "
        r"⟩〉 \rangle ⌊ \lfloor ⌋ \rfloor ⌈ \lceil ⌉ \rceil ∠ \angle ∈ \in ∉ \notin ⊂ \subset ⊃ \supset ⊆ \subseteq "
        r"⊇ \supseteq ∂ \partial ∇ \nabla → \to ⇒ \Rightarrow ⇔ \Leftrightarrow ↔ \leftrightarrow ¬ \neg ∧ \land "
        r"∨ \lor ⊕ \oplus ⊗ \otimes ⊥ \perp ∥ \parallel ∖ \setminus ∘ \circ ∝ \propto ≪ \ll ≫ \gg ∤ \nmid ∼ \sim "
        r"∀ \forall ∃ \exists ℵ \aleph ℏħ \hbar ℓ \ell ÅÅ \AA α \alpha β \beta γ \gamma Γ \Gamma δ \delta △∆Δ \Delta "
        r"εϵ \epsilon ζ \zeta η \eta θ \theta Θ \Theta κ \kappa λ \lambda Λ \Lambda μµ \mu ν \nu ξ \xi Ξ \Xi πΠ \pi "
        r"ρ \rho σ \sigma Σ \Sigma τ \tau φϕ \phi Φ \Phi χ \chi ψ \psi Ψ \Psi ω \omega ΩΩ \Omega",
    )
    for symbol in symbols
}
_RAISED = re.compile(r"[⁰¹²³⁴-⁹ⁱⁿ⁺⁻⁽⁾ᴬ-ᵡˣʸ]++(?!⁄[₀-₉])")
_VULGAR = re.compile(r"[¼-¾⅐-⅞]|(?<![A-Za-z)\]}])⁻?[⁰¹²³⁴-⁹]+⁄[₀-₉]+")
_OVERLINED = re.compile("(?:\\d[\u0304\u0305])+")
_CONDITION = re.compile(r"\s*[,;]?\s*&\s*(?:(?:\\text\s*\{\s*(?:if|for|when)\s*\}|(?:if|for|when)\b)\s*)?")
_LOWERED = re.compile(r"(?<![⁄₀-₉])[₀-₎ₐ-ₜᵢⱼ]++")

_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=[RZQC]\})\s*(?:-|\\)\s*\\?\{([^{}\\]*)\\?\}", r"\\setminus \\{\1\\}"),
        (r"\{(-?\d+)⁄(\d+)\}|(\d+)⁄(\d+)", r"\\frac{\1\3}{\2\4}"),
        (r"<sup>\s*(\d+)\s*</sup>\s*[/⁄]\s*<sub>\s*(\d+)\s*</sub>", r"\\frac{\1}{\2}"),
        (r"<sup>([^<>]*)</sup>", r"^{\1}"),
        (r"<sub>([^<>]*)</sub>", r"_{\1}"),
        # layout
        (r"\{\s*\\rm(?![A-Za-z])([^{}]*)\}", r"\\text{\1}"),
        (r"\\(?:textcolor|color|colorbox|fcolorbox\s*\{\w+\})\s*(?:\[\w*\])?\s*\{[^{}]*\}", ""),
        (r"\\(?:[hv]space|[hv]?phantom|tag|label)\*?\s*\{[^{}]*\}", ""),
        (rf"\\(?:begin|end)\s*\{{(?:{_ENVIRONMENTS})\}}", ""),
        (r"\\(?:left|right|middle)(?![A-Za-z])\s*\.?|\\[bB]igg?[lrm]?(?![A-Za-z])", ""),
        (r"\\(?:(?:display|text|script)style|[lL]arge|LARGE|[hH]uge|normalsize|small|tiny|(?:math)?strut|limits|bf|rm|it)"
         r"(?![A-Za-z])", ""),
        (r"\\(?:checkmark|blacksquare|square|Box|qed)(?![A-Za-z])\s*$", ""),
        (r",?\s*\\q?quad\s*(?=\w\s*=)", ", "),
        (r"\\q?quad(?![A-Za-z])|(?<!\\)\\[ ;:,]|~", " "),
        (r"\\(?:pounds|euro|yen|texteuro|cents?)(?![A-Za-z])|(?<!\\)\\[!()\[\]]|\\\$|\$|(?<=\\\\)\[\d+\s?[a-z]+\]", ""),
        # synonyms
        (rf"\\({'|'.join(_SYNONYMS)})(?![A-Za-z])", lambda command: _SYNONYMS[command[1]]),
        (r"(\\[A-Za-z]+)(?=\d)", r"\1 "),
        (r"\\[lc]?dots(?![A-Za-z])|\.\.\.", r"\\ldots "),
        (r"\+/-", r"\\pm "),
        (r"(^|[\s=(,])\^\{(\w)\}\s*√", r"\1\\sqrt[\2]√"),
        (r"(?:^|\{\}|(?<=[\s=]))[_^]\{?(\w+)\}?\s*C_\{?(\w+)\}?", r"\\binom{\1}{\2}"),
        (r"(?<![A-Za-z\\])C\(\s*(\d+|[nkm])\s*,\s*(\d+|[nkm])\s*\)", r"\\binom{\1}{\2}"),
        (r"(?:^|\{\}|(?<=[\s=]))[_^]\{?(\w+)\}?\s*P_\{?(\w+)\}?", r"\\frac{\1!}{(\1-\2)!}"),
        (r"(?:\\(?:text|mathrm|operatorname)\s*\{\s*cis\s*\}|\\?\bcis\b)\s*"
         r"(\([^()]*\)|\\frac(?:\{[^{}]*\}){2}|\\?\w+(?:\^\{?\\circ\}?)?)", r"(\\cos \1+i\\sin \1)"),
        (r"^[ABDEFHMO-TV]?(\([^()]*,[^()]*\))(?:\s*\^\s*\{?\s*\\?(?:T|top)\s*\}?)?$", r"\1"),  # P(1, 2), (1, 2)^T
        (r"^([\[\]])([^\[\]()]*)([\[\]])$", lambda ends: f"{'[('[ends[1] == ']']}{ends[2]}{'])'[ends[3] == '[']}"),
        (r"\\(max|min)\s*\\\{([^{}]*)\\\}", r"\\\1(\2)"),
        (r"(?<=\S)\s*[,;]\s*[a-z]\s*\\in\s*\\mathbb\{Z\}$", ""),
        (r"\\(vec|hat|bar|overline|overrightarrow)\s+(\w)", r"\\\1{\2}"),
        (r"\\(?:vec|hat)\s*\{\s*(\\(?:mathbf|boldsymbol|bm|mathrm)\s*\{\s*)?([ijk])\s*(?(1)\})\s*\}", r"\2"),
        (r"^\\sim\s*(?=[\d.])", r"\\approx "),
        (r"\\mathbb\s*\{?R\}?\s*[_^]\s*\{?\s*(?:\+|>\s*0)\s*\}?", r"(0,\\infty)"),
        (r"([\^_])\{([+*'-])\}", r"\1\2"),
        (r"(?<![\w)}.^/])(\d+)/(\d+)\s+(?=[\\A-Za-z])", r"\\frac{\1}{\2} "),
        (r"^(\d+)\s*(?:to|\\text\s*\{\s*to\s*\})\s*(\d+)$", r"\1:\2"),
        (r"\\mathbb\s*([A-Z])", r"\\mathbb{\1}"),
        (r"\\(sin|cos|tan)\s*\^\s*\{?-1\}?", r"\\arc\1 "),
        (r"[<>!]=", lambda sign: {"<=": r"\le ", ">=": r"\ge ", "!=": r"\neq "}[sign[0]]),
        (r"\\\{\s*\\\}", r"\\emptyset "),
        (r"\{:\}|\\colon(?![A-Za-z])", ":"),
        (r"\\degree(?![A-Za-z])|(?:\{\})?(?:\^|(?<=\d))\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})(?:\s*[CF]\b)?",
         r"^\\circ "),
        (rf"\\(?:{COMMANDS})\s*\{{\s*(?:({_NAMES})|(\\(?!AA|Omega|mu|circ)[A-Za-z]+))\s*\}}",
         lambda name: rf"\{name[1]} " if name[1] else f"{name[2]} "),
        (r"(\\(?:mathrm|text)\s*\{\s*)\\frac\{([A-Za-z]+)\}\{([A-Za-z]+)\}", r"\1\2/\3"),
        (r"\\begin\s*\{(?:array|smallmatrix|[bB]?matrix)\}(?:\s*\{[clr| ]*\})?", r"\\begin{pmatrix}"),
        (r"\\end\s*\{(?:array|smallmatrix|[bB]?matrix)\}", r"\\end{pmatrix}"),
        (r"[(\[]\s*(\\begin\{pmatrix\}.*\\end\{pmatrix\})\s*[)\]]", r"\1"),
        # plain text
        (rf"(?<![\\A-Za-z])({_NAMES}|pi|infty|theta|alpha|beta)(?![A-Za-z{{}}])", r"\\\1 "),
        (r"\\Pi(?![A-Za-z])|(?<![\\A-Za-z])Pi(?![A-Za-z{}])", r"\\pi "),
        (r"(?<![\\A-Za-z])infinity(?![A-Za-z])", r"\\infty "),
        *[(r"(?:√|(?<![\\A-Za-z])sqrt)\s*\(((?:[^()]|\([^()]*\))*)\)", r"√{\1}")] * 2,
        (r"(?:√|(?<![\\A-Za-z])sqrt)\s*(-?\d+(?:\.\d+)?|[A-Za-z]|\\frac\{\d+\}\{\d+\}|\\[a-z]+)", r"√{\1}"),
        (r"\]√", "]"),
        (r"√|(?<![\\A-Za-z])sqrt(?=\s*\{)", r"\\sqrt"),
        (r"\*\*", "^"),
        (r"\^\s*\(([^()]*)\)|\^\s*([-+]?\d{2,}|[-+]\w)", r"^{\1\2}"),
        (r"(?i:\s*per\s?cent(?:age)?\b)|\\text\s*\{\s*(?:\\?%|per\s?cent)\s*\}", "%"),
        (r"(?<![\w}])(?:\\text\s*\{\s*)?(?:minus|negative)\b(?:\s*\}|\s)\s*(?=[\d\\])", "-"),
        # arguments without braces
        (r"\\(frac|binom)(?:\s*(\d|\\pi(?![A-Za-z]))|\s+([A-Za-z]))", r"\\\1{\2\3}"),
        (r"\\(frac|binom)\s*(\{(?:[^{}]|\{[^{}]*\})*\})\s*(\w|\\pi(?![A-Za-z]))", r"\\\1\2{\3}"),
        (r"\^\s*(\\frac\{[^{}]*\}\{[^{}]*\})", r"^{\1}"),
        (r"\\sqrt\s*(\[\w+\]|)\s*([\dA-Za-z])", r"\\sqrt\1{\2}"),
        (r"(\d+|[A-Za-z])!\s*\^", r"(\1!)^"),
        (r"\{?([\w+-]+)\s*\\choose\s*([\w+-]+)\}?", r"\\binom{\1}{\2}"),
        # the parser reads \sin x\cdot y as the sine of xy
        (r"(\\(?:(?:arc)?(?:sin|cos|tan)|cot|sec|csc|ln|log)(?![A-Za-z])(?:[_^](?:\w|\{[^{}]*\}))*)\s*(?![\s(])"
         r"((?:\\(?!cdot|times)[A-Za-z]++|\{(?:[^{}]|\{[^{}]*\})*\}|[\w\s^])++)(?=\\cdot|\\times|\*)", r"\1(\2)"),
        (r"⁄", "/"),
        (r"(\d)\s+(\d+)/(\d+)(?![\d/])", r"\1\\frac{\2}{\3}"),
    )
]  # fmt: skip


def _cases(found: re.Match[str]) -> str:
    """The pieces of a function as a set of pairs: {(x, x > 0), (-x, x < 0)}."""
    rows = [_CONDITION.split(row.strip(" ,;.\n"), 1) for row in found[1].split(r"\\") if row.strip(" ,;.\n")]
    return "\\{" + ", ".join(f"({', '.join(row)})" for row in rows) + "\\}"


def plain_latex(text: str) -> str:
    """The text in plain LaTeX. \\text{} and similar commands stay: they separate a unit from a product of variables."""
    text = text.translate(_SYMBOLS)
    text = _RAISED.sub(r"^{\g<0>}", _VULGAR.sub(r"{\g<0>}", text))
    text = _LOWERED.sub(r"_{\g<0>}", text)
    text = _OVERLINED.sub(lambda run: rf"\overline{{{run[0][::2]}}}", text)
    text = unicodedata.normalize("NFKC", text).replace("−", "-")  # full width, the letters of mathematics
    text = re.sub(r"\\\\(?=[A-Za-z]{2})", r"\\", text)  # \\\\frac, escaped twice
    text = re.sub(r"\\begin\{cases\}([^&]*?)\\end\{cases\}", r"\1", text)  # a system's solution
    text = re.sub(r"\\begin\{cases\}(.*?)\\end\{cases\}", _cases, text, flags=re.DOTALL)
    if "matrix" not in text and "array" not in text and "cases" not in text:
        text = re.sub(r",?\s*\\\\\s*(?=\S)(?!\\end)", ", ", text.rstrip("\\ ")).replace("&", "")
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text.strip()
