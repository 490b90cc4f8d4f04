"""What the pages say, in Chinese: English text or template -> Chinese, by the file that the text comes from.

translate.py says how a template is read.  A final period may be left out on both sides where the text comes with and
without one; a first letter is written small where it comes both ways.

Terms, the same everywhere (README.zh-CN.md has them too):

    bare head        未戴头盔的头部         head             头部
    newly missed     新漏检                 newly found      新检出
    false alarm      误报                   recall           召回率
    gate             判定                   margin           门限
    passed           通过                   failed           未通过
    undecided        无法判定               not judged       不作判定
    95 % interval    95% 置信区间           points           个百分点
    prune            剪枝                   quantize         量化
    distill          蒸馏                   calibration      校准
    threshold        阈值                   score            得分
    baseline         基线                   result           结果（压缩后的模型）
    reported         报告（图片）           tuning           调参（图片）
    label            标注                   look-alike       形似物
    latency          延迟                   severity         强度
"""

from __future__ import annotations

from collections.abc import Mapping

CHINESE: Mapping[str, str] = {
    # figures.py, and what is said everywhere
    "unknown": "未知",
    "{n_low} to {n_high}": "{n_low} 至 {n_high}",
    "{n_before} → {n_after}": "{n_before} → {n_after}",
    "{what} {n_value}": "{what} {n_value}",
    "{name}: {n_value}": "{name}：{n_value}",
    "mAP50-95": "mAP50-95",
    "openvino": "OpenVINO",
    "onnxruntime": "ONNX Runtime",
    "pytorch": "PyTorch",
    # pages/html.py
    "中文": "English",
    "Written by helmlite.": "由 helmlite 生成。",
    "How this was made": "数据、命令与版本",
    "pictures": "图片",
    "number": "数量",
    "boxes": "标注框",
    "sha256 of pictures and labels": "图片和标注的 sha256",
    "Commands": "命令",
    "training": "训练",
    "tuning and gate": "调参与判定",
    "reported": "报告",
    "thresholds": "选择阈值",
    # pages/run_page.py: header and tiles
    "{name_model}: {verdict}; gate: {result}": "{name_model}：{verdict}；判定：{result}",
    "helmlite ·": "helmlite ·",
    "for": "用于",
    "· {created}": "· {created}",
    "{n_minutes} minutes": "{n_minutes} 分钟",
    "· {n_minutes} minutes": "· {n_minutes} 分钟",
    "gate: {verdict}": "判定：{verdict}",
    "95 % interval: {interval}": "95% 置信区间：{interval}",
    "interval unknown": "区间未知",
    "no class has the role no_helmet": "没有任何类别的角色是 no_helmet",
    "Latency": "延迟",
    "Files that the target loads": "目标设备加载的文件",
    "Recall of no_helmet": "未戴头盔（no_helmet）召回率",
    "from {n_share}": "原为 {n_share}",
    "What to bear in mind": "阅读须知",
    # pages/run_page.py: the gate
    "The gate": "判定",
    "Judged on {n_pictures} pictures of the {name_split} split, which is not trained on; thresholds and the precision "
    "that ships are chosen on it.": (
        "在 {name_split} 部分的 {n_pictures} 张图片上判定；这部分不参与训练，阈值和交付所用的数值精度在其上选定。"
    ),
    "Judged on {n_pictures} pictures in {n_scenes} scenes of the {name_split} split, which is not trained on; "
    "thresholds and the precision that ships are chosen on it.": (
        "在 {name_split} 部分 {n_scenes} 个场景的 {n_pictures} 张图片上判定；这部分不参与训练，阈值和交付所用的数值精"
        "度在其上选定。"
    ),
    "{n_draws} paired draws, seed {n_seed}.": "成对重抽样 {n_draws} 次，随机种子 {n_seed}。",
    "Passed: the upper end of the 95 % interval of the loss is at most the margin; failed: the lower end is above "
    "it; else undecided.": "通过：损失的 95% 置信区间上端不超过门限；未通过：下端高于门限；其余情况为无法判定。",
    "Dot: the loss. Bar: its 95 % interval. Upright tick: the margin. A class or a size fails only where its whole "
    "bar is beyond its tick.": (
        "圆点：损失；横条：其 95% 置信区间；竖线：门限。只有整条横条都越过竖线时，某个类别或尺寸才算未通过。"
    ),
    # pages/run_page.py: steps
    "step": "步骤",
    "points": "百分点",
    "mAP50": "mAP50",
    "no_helmet": "no_helmet",
    "recall": "召回率",
    "MACs": "MACs",
    "parameters": "参数量",
    "files": "文件",
    "latency": "延迟",
    "times": "加速",
    "faster": "倍数",
    "To be held against": "用于对照",
    "Step by step": "逐步结果",
    "{n_size} packed": "打包后 {n_size}",
    "p95 {n_latency}": "p95 {n_latency}",
    "INT8, rest BF16": "INT8，其余 BF16",
    "Accuracy against latency": "精度与延迟",
    "Accuracy": "精度",
    "Accuracy on the {pictures}. Recall with as many false alarms on the tuning pictures in every row.": (
        "精度数据来自 {pictures}。各行的召回率都取在调参图片上误报数相同的阈值处。"
    ),
    "Accuracy. Recall with as many false alarms on the tuning pictures in every row.": (
        "精度。各行的召回率都取在调参图片上误报数相同的阈值处。"
    ),
    "Latency: {conditions}": "延迟测量条件：{conditions}",
    "CPU {cpu}, runtime {runtime}, threads {threads}, rounds {rounds}": (
        "CPU {cpu}，运行时 {runtime}，线程数 {threads}，轮数 {rounds}"
    ),
    "CPU {cpu}, threads {threads}, rounds {rounds}": "CPU {cpu}，线程数 {threads}，轮数 {rounds}",
    "threads {n_threads}": "线程数 {n_threads}",
    # pages/run_page.py: speed
    "Where the speed comes from": "加速从何而来",
    "factor": "因素",
    "times faster": "加速倍数",
    "latency, in this order": "延迟（按此顺序）",
    "measured as": "测量方式",
    "Each factor is the ratio of two rows, all timed in turn in one run.": (
        "每个因素是两行延迟之比，所有行在同一次运行中轮流计时。"
    ),
    "Together they make {n_product}.": "各因素相乘为 {n_product}。",
    "The baseline and the result alone, timed once more: {n_measured}.": "只对基线和结果再测一次：{n_measured}。",
    "The baseline and the result alone, timed once more: {n_measured}, {n_apart} less.": (
        "只对基线和结果再测一次：{n_measured}，比乘积低 {n_apart}。"
    ),
    "The baseline and the result alone, timed once more: {n_measured}, {n_apart} more.": (
        "只对基线和结果再测一次：{n_measured}，比乘积高 {n_apart}。"
    ),
    # pages/run_page.py: classes, heads, training, files
    "Each class and size": "各类别与各尺寸",
    "class or size": "类别或尺寸",
    "AP50-95, points": "AP50-95，百分点",
    "AP50, points": "AP50，百分点",
    "no role": "无角色",
    "small boxes": "小目标",
    "medium boxes": "中目标",
    "large boxes": "大目标",
    "Sizes as in COCO: small below 32², large above 96² pixels of the original picture.": (
        "尺寸按 COCO 划分：以原图像素计，小于 32² 为小目标，大于 96² 为大目标。"
    ),
    "Bare heads": "未戴头盔的头部",
    "No class has the role no_helmet: nothing can be said of bare heads": (
        "没有任何类别的角色是 no_helmet：无法就未戴头盔的头部得出任何结论"
    ),
    "Crops were not asked for.": "未要求附上截图。",
    "The baseline finds {n_found} of {n_heads} with {n_alarms} false alarms on {n_pictures} pictures (threshold "
    "{n_threshold}), the result {n_found_after} with {n_alarms_after} ({n_threshold_after}).": (
        "在 {n_pictures} 张图片上，基线检出 {n_heads} 个中的 {n_found} 个，误报 {n_alarms} 次（阈值 {n_threshold}）；"
        "结果检出 {n_found_after} 个，误报 {n_alarms_after} 次（阈值 {n_threshold_after}）。"
    ),
    "Training": "训练过程",
    "What the files give": "导出文件的一致性",
    "file": "文件",
    "boxes apart, pixels": "框偏差，像素",
    "mean (largest)": "平均（最大）",
    "scores apart": "得分偏差",
    "boxes above 0.25": "得分高于 0.25 的框",
    "that match": "一致的比例",
    "Each exported file against the same weights in PyTorch, every cell of the head on {n_pictures} tuning pictures.": (
        "每个导出文件与 PyTorch 中的同一权重对比：{n_pictures} 张调参图片上检测头的每个单元。"
    ),
    "{n_share} of {n_boxes}": "{n_boxes} 个中的 {n_share}",
    "of {n_boxes}": "（共 {n_boxes} 个）",
    "in lower precision": "低精度版本",
    "copy of": "原版本",
    "of its boxes": "原版本的框",
    "reported again": "再次检出的比例",
    "their overlap": "框的重合度",
    "mean IoU": "平均 IoU",
    "mean (shift)": "平均（偏移）",
    "What precision alone does to the reported pictures, boxes and scores apart.": (
        "仅数值精度一项对报告图片上结果的影响，框与得分分开列出。"
    ),
    "What stayed float": "保持浮点的部分",
    "parts of the graph": "计算图中的部分",
    "why": "原因",
    "Seed and versions": "随机种子与版本",
    "Latency was measured on": "延迟测量条件",
    "Hashes": "哈希值",
    "seed": "随机种子",
    "runtime": "运行时",
    "threads": "线程数",
    "rounds": "轮数",
    "{n_first} and {n_second}": "{n_first} 和 {n_second}",
    # pages/comparison_page.py
    "helmlite compare: {name_all}": "helmlite compare：{name_all}",
    "helmlite · {n_models} models on {pictures}": "helmlite · {n_models} 个模型 · {pictures}",
    "{name_first}: mAP50-95 {n_points} points": "{name_first}：mAP50-95 为 {n_points} 个百分点",
    "{n_models} models against {name_first}: mAP50-95 shown to be lower in {n_lost}, higher in {n_won}, not told "
    "apart in {n_alike}": (
        "{n_models} 个模型与 {name_first} 对比：证实 mAP50-95 更低的 {n_lost} 个，更高的 {n_won} 个，无法区分的"
        " {n_alike} 个"
    ),
    "{name_own} against {name_first}: {proven}": "{name_own} 与 {name_first} 对比：{proven}",
    "{n_points} points of mAP50-95 lost": "mAP50-95 损失 {n_points} 个百分点",
    "{n_points} points of mAP50-95 gained": "mAP50-95 提升 {n_points} 个百分点",
    "no difference in mAP50-95 shown": "未显示 mAP50-95 有差异",
    "no interval, so nothing is proved": "没有置信区间，因此什么都没有证实",
    "{name_own}: recall": "{name_own}：召回率",
    "{name_own}: mAP50-95": "{name_own}：mAP50-95",
    "Dot: the difference. Bar: its 95 % interval, paired by picture, of mAP50-95 and of the recall of no_helmet. A "
    "bar across the upright tick at zero proves neither a loss nor a gain.": (
        "圆点：差异；横条：mAP50-95 与 no_helmet 召回率之差按图片成对的 95% 置信区间。横条跨过零处竖线的，既不能证"
        "实损失，也不能证实提升。"
    ),
    "Differences": "差异",
    "Each against {name_first}.": "各模型与 {name_first} 对比。",
    "Recall at {n_alarms} false alarms for every 100 pictures of {name_split}, each model at the threshold that "
    "gives it.": "召回率取在 {name_split} 部分每 100 张图片 {n_alarms} 次误报处，每个模型各用达到这一误报数的阈值。",
    "Models": "模型",
    "model": "模型",
    "95 %": "95% 置信区间",
    "mAP75": "mAP75",
    "no_helmet recall": "no_helmet 召回率",
    "On {pictures}. Latency: {conditions}": "图片：{pictures}。延迟：{conditions}",
    "not measured": "未测量",
    "{n_pictures} pictures ({name_split}): {n_boxes} boxes": (
        "{name_split} 部分的 {n_pictures} 张图片：{n_boxes} 个标注框"
    ),
    "{n_pictures} pictures ({name_split}): {n_boxes} boxes, {n_heads} of them bare heads": (
        "{name_split} 部分的 {n_pictures} 张图片：{n_boxes} 个标注框，其中 {n_heads} 个未戴头盔的头部"
    ),
    "{n_pictures} pictures of {name_source} ({name_split}): {n_boxes} boxes": (
        "{name_source}（{name_split}）的 {n_pictures} 张图片：{n_boxes} 个标注框"
    ),
    "{n_pictures} pictures of {name_source} ({name_split}): {n_boxes} boxes, {n_heads} of them bare heads": (
        "{name_source}（{name_split}）的 {n_pictures} 张图片：{n_boxes} 个标注框，其中 {n_heads} 个未戴头盔的头部"
    ),
    # pages/cross_domain_page.py, cross_domain.py
    "helmlite cross-domain: {name_all}": "helmlite cross-domain：{name_all}",
    "helmlite cross-domain": "helmlite cross-domain",
    "{n_models} models on {n_sets} sets": "{n_models} 个模型、{n_sets} 个数据集",
    "{n_models} models on {n_sets} set": "{n_models} 个模型、{n_sets} 个数据集",
    "{n_models} model on {n_sets} sets": "{n_models} 个模型、{n_sets} 个数据集",
    "{n_models} model on {n_sets} set": "{n_models} 个模型、{n_sets} 个数据集",
    "{counts}: every model was trained on every set": "{counts}：每个模型都用每个数据集训练过",
    "{counts}: what models lose away from home is unknown": "{counts}：模型跨域损失多少，未知",
    "{counts}: too few pictures to prove anything": "{counts}：图片太少，什么也证明不了",
    "{counts}: away from home mAP50-95 shown to be lower in {n_lost}, higher in {n_won}, not told apart in {n_alike}": (
        "{counts}：跨域时证实 mAP50-95 更低的 {n_lost} 处，更高的 {n_won} 处，无法区分的 {n_alike} 处"
    ),
    "unknown in {n_unknown}": "未知的 {n_unknown} 处",
    "at home": "本域",
    "mAP50-95 in points, its 95 % interval over the pictures, and mAP50. Read down a column: {sets}": (
        "mAP50-95（百分点）、其对图片的 95% 置信区间，以及 mAP50。请按列比较：{sets}"
    ),
    "{name_own}: {n_pictures} pictures ({name_split}), {n_boxes} boxes": (
        "{name_own}：{n_pictures} 张图片（{name_split}），{n_boxes} 个标注框"
    ),
    "{name_own}: {n_pictures} pictures ({name_split}), {n_boxes} boxes, {n_heads} of them bare heads": (
        "{name_own}：{n_pictures} 张图片（{name_split}），{n_boxes} 个标注框，其中 {n_heads} 个未戴头盔的头部"
    ),
    "change of mAP50-95, points": "mAP50-95 的变化，百分点",
    "change of recall of no_helmet, points": "no_helmet 召回率的变化，百分点",
    "What models lose away from home": "模型跨域的损失",
    "What is lost away from home": "跨域的损失",
    "Against the best model here that was trained on the column's set (its own cell says 0.0), paired by picture. "
    "Colour only where the 95 % interval leaves zero out; unknown where no model was trained on the set.": (
        "与这里用该列数据集训练的最佳模型（其自身一格为 0.0）按图片成对比较。只有 95% 置信区间不含零时才着色；没有"
        "模型用该数据集训练过时为未知。"
    ),
    "{name_model}, tested on {name_own}: {says}": "{name_model}，在 {name_own} 上测试：{says}",
    "Cell by cell": "逐格说明",
    "as it comes:": "按其自带阈值：",
    "as it comes: {n_share}": "按其自带阈值：{n_share}",
    "{n_share} ({n_low} to {n_high})": "{n_share}（{n_low} 至 {n_high}）",
    "{name_own}: {n_alarms} on {name_split}": "{name_own}：在 {name_split} 上 {n_alarms} 次",
    "Recall where each model may raise as many false alarms for every 100 pictures as the others ({levels}), and, "
    "where a model brings thresholds, what these give away from home.": (
        "各模型每 100 张图片的误报数相同时的召回率（{levels}）；模型自带阈值的，另列出这些阈值在跨域时的结果。"
    ),
    "trained on \\ tested on": "训练于 \\ 测试于",
    "trained on {name_all}": "训练于 {name_all}",
    "{name_all} (as given)": "{name_all}（由用户给出）",
    "{name_all} (its own record)": "{name_all}（模型自身记录）",
    "What it loses on {name_own} is unknown: no model here was trained on it": (
        "它在 {name_own} 上损失多少，未知：这里没有模型用它训练过"
    ),
    "The best here that was trained on {name_own}; the others are held against it": (
        "这里用 {name_own} 训练的最佳模型；其他模型与它对比"
    ),
    "Figures of different columns are of different pictures and cannot be compared": (
        "不同列的数据来自不同图片，不能相互比较"
    ),
    "Each of the {n_intervals} intervals of a loss stands alone: of {n_zeros} true zeros about one is left out by "
    "chance": "{n_intervals} 个损失区间各自独立成立：每 {n_zeros} 个真正为零的损失中，约有一个会因偶然而被排除在外",
    "{name_own}: no interval can be trusted on {n_units} independent pictures": (
        "{name_own}：{n_units} 张独立图片上的置信区间不可信"
    ),
    "{name_model}: what it was trained on is not known; say so with {setting}": (
        "{name_model}：不知道它用什么训练；请用 {setting} 说明"
    ),
    "{name_model}: it was trained on {name_own}, which is none of the sets here": (
        "{name_model}：它用 {name_own} 训练，而 {name_own} 不在这里的数据集之中"
    ),
    "{name_own}: thresholds, and the best of several, were chosen on the reported pictures themselves "
    "({name_split}), which flatters": (
        "{name_own}：阈值以及多个模型中的最佳者都是在报告图片（{name_split}）上选的，结果因此偏高"
    ),
    # pages/evidence.py
    "Kinds of errors": "错误的种类",
    "kind of error": "错误种类",
    "{n_count} shown": "显示 {n_count} 个",
    "scores off by": "得分偏离",
    "expected calibration error": "期望校准误差（ECE）",
    "Points of AP50 that each kind costs over all detections (TIDE, Bolya 2020), and below them how many of the "
    "kind a device would show at the thresholds chosen for it. The last row: how far scores are from the share of "
    "right detections.": (
        "每种错误在全部检测结果上损失的 AP50 百分点（TIDE，Bolya 2020），下方是设备按所选阈值会显示的该类错误个数。"
        "最后一行：得分与正确检测比例相差多少。"
    ),
    "By head height": "按头部高度",
    "height of the head": "头部高度",
    "AP50 by height in pixels of the original picture, and the recall of each class at its threshold; unknown where "
    "fewer than {n_fewest} boxes are labelled.": (
        "按原图像素高度分段的 AP50，以及各类别在其阈值处的召回率；标注框少于 {n_fewest} 个的分段为未知。"
    ),
    "recall, %": "召回率，%",
    "precision, %": "精确率，%",
    "threshold, %": "阈值，%",
    "score, %": "得分，%",
    "right, %": "正确，%",
    "Precision and recall of {name_own}, IoU 0.5": "{name_own} 的精确率与召回率，IoU 0.5",
    "F1 of {name_own} by threshold": "{name_own} 的 F1 随阈值的变化",
    "a score that says what it is": "与实际相符的得分",
    "Share of right detections by score": "各得分段的正确检测比例",
    "Every detection counts here, down to the lowest score. A point of the last plot is a tenth of the scores.": (
        "这里计入全部检测结果，直到最低得分。最后一幅图中每个点代表得分的十分之一区间。"
    ),
    "Curves": "曲线",
    "What is taken for what": "混淆矩阵",
    "Rows are what is labelled, columns what is shown at the chosen thresholds. The last column is missed, the last "
    "row invented.": "行是标注的类别，列是按所选阈值显示的类别。最后一列为漏检，最后一行为误报。",
    "labelled": "标注",
    "background": "背景",
    "Thresholds": "阈值",
    "Chosen by {rule}": "选择规则：{rule}",
    "at equal false alarms": "误报数相同处",
    "at the threshold": "按模型自带的",
    "that it carries": "阈值",
    "if the threshold of": "若沿用",
    "{name_first} were kept": "{name_first} 的阈值",
    "Bare heads at each threshold, on the reported pictures": "报告图片上各阈值处的未戴头盔的头部",
    "found": "检出",
    "{n_share} found": "检出 {n_share}",
    "{n_alarms} false alarms per 100 at {n_threshold}": "阈值 {n_threshold}，每 100 张图片误报 {n_alarms} 次",
    "number of": "个数",
    "What missed heads are like": "漏检的头部有什么共同点",
    "Why heads are missed and invented": "漏检与误报的原因",
    "At the chosen thresholds. Small, blurred and dark mean the lowest fifth of these heads. That a trait goes with "
    "misses is said where a 99 % interval shows it; what goes with something need not cause it.": (
        "按所选阈值。偏小、模糊、偏暗指这些头部中最低的五分之一。只有 99% 置信区间能证实时，才说某一属性与漏检相关；"
        "相关不一定是因果。"
    ),
    "{n_heads} heads are in pictures that could no longer be read; their looks are unknown.": (
        "{n_heads} 个头部所在的图片已无法读取，其外观未知。"
    ),
    "heads that are": "头部的属性",
    "none": "无",
    "{n_missed} of {n_heads} missed": "{n_heads} 个中漏检 {n_missed} 个",
    "{n_missed} of {n_heads} of the others": "其余 {n_heads} 个中 {n_missed} 个",
    "no others": "没有其余的头部",
    "shown to matter": "证实有关",
    "not shown to matter": "未证实有关",
    "No trait is shown to go with the heads that only one of the two finds.": (
        "没有证实哪种属性与只有一方检出的头部有关。"
    ),
    "{name_own} against {name_first}": "{name_own} 与 {name_first} 对比",
    "{n_missed} of {n_heads} heads newly missed, {n_found} newly found": (
        "{n_heads} 个头部中新漏检 {n_missed} 个，新检出 {n_found} 个"
    ),
    "picture": "图片",
    "mAP50-95, points": "mAP50-95，百分点",
    "recall of no_helmet, points": "no_helmet 召回率，百分点",
    "What the loss is because of each picture (all of a scene, where the data set names scenes): the loss with it "
    "less the loss without it. Above 0 it speaks against the model. Look at these pictures and their labels first.": (
        "每张图片（数据集标明场景时为整个场景）对损失的影响：含它时的损失减去不含它时的损失。大于 0 表示对该模型不"
        "利。请先查看这些图片及其标注。"
    ),
    "Pictures that the verdict hangs on": "左右结论的图片",
    "The reported pictures made worse by formulas: stand-ins for real bad pictures, not a forecast. Input is "
    "{name_first}, result the model named above each plot.": (
        "用公式降质的报告图片：是真实恶劣图片的替代，而非预测。“输入”指 {name_first}，“结果”指每幅图上方所写的模型。"
    ),
    "In bad conditions": "恶劣条件下",
    # pages/gallery.py, pages/gallery_cards.py
    "heads newly missed": "新漏检的头部",
    "heads newly found": "新检出的头部",
    "false alarms": "误报",
    "labels to look at": "需要复查的标注",
    "heads newly missed: {name_own}": "新漏检的头部：{name_own}",
    "heads newly found: {name_own}": "新检出的头部：{name_own}",
    "false alarms: {name_own}": "误报：{name_own}",
    "The left detector finds these heads and the right one does not, at equal false alarms; the widest difference "
    "of scores first, bare heads before all others.": (
        "在误报数相同时，左侧检测器检出而右侧未检出的头部；未戴头盔的头部在前，再按得分差从大到小排列。"
    ),
    "The right detector finds these heads and the left one does not, at equal false alarms; the widest difference "
    "of scores first, bare heads before all others.": (
        "在误报数相同时，右侧检测器检出而左侧未检出的头部；未戴头盔的头部在前，再按得分差从大到小排列。"
    ),
    "Detections of the last named detector that take no labelled head, the surest first.": (
        "最后一个检测器给出的、不对应任何标注头部的检测结果，得分高的在前。"
    ),
    "Labels that the detectors contradict: probably wrong, to be looked at, not to be changed unseen.": (
        "与检测器结果相矛盾的标注：很可能有误，请先查看，不要未看就改。"
    ),
    "detected as no_helmet": "检出为 no_helmet",
    "detected as another class; each with its score": "检出为其他类别；均附得分",
    "{n_total} in all": "共 {n_total} 个",
    "{n_shown} of {n_total} shown": "共 {n_total} 个，显示其中 {n_shown} 个",
    "previous": "上一个",
    "next": "下一个",
    "close": "关闭",
    "Picture {picture}: {says}": "图片 {picture}：{says}",
    "{name_class}, {n_before} → {n_after}: {says}": "{name_class}，{n_before} → {n_after}：{says}",
    "{name_class}, {n_before} → nothing: {says}": "{name_class}，{n_before} → 无检测：{says}",
    "{name_class}, nothing → {n_after}: {says}": "{name_class}，无检测 → {n_after}：{says}",
    "{name_class}, nothing → nothing: {says}": "{name_class}，无检测 → 无检测：{says}",
    # pages/plots.py, pages/robustness_plot.py
    "← gain": "← 提升",
    "points lost →": "损失的百分点 →",
    "Losses with 95 % intervals against their margins": "各项损失及其 95% 置信区间与门限",
    "{name} ({verdict}): loss {n_loss}, interval {n_low} to {n_high}, margin {n_margin}": (
        "{name}（{verdict}）：损失 {n_loss}，区间 {n_low} 至 {n_high}，门限 {n_margin}"
    ),
    "factors": "各因素",
    "measured": "实测",
    "The speed-up split into its factors": "加速按因素分解",
    "{factors} = {n_product}": "{factors} = {n_product}",
    "{factors} = {n_product}; measured {n_measured}": "{factors} = {n_product}；实测 {n_measured}",
    "latency, ms (logarithmic) →": "延迟，ms（对数刻度）→",
    "↑ mAP50-95, points": "↑ mAP50-95，百分点",
    "model {name_model}: {n_latency}, {n_points} points": "模型 {name_model}：{n_latency}，{n_points} 个百分点",
    "{name}: {n_latency}, {n_points} points": "{name}：{n_latency}，{n_points} 个百分点",
    "{label} →": "{label} →",
    "↑ {label}": "↑ {label}",
    "{name} ends at {n_value}": "{name} 末值 {n_value}",
    "model {name_model} ends at {n_value}": "模型 {name_model} 末值 {n_value}",
    "colour: up to {n_points} points": "颜色：至多 {n_points} 个百分点",
    "grey: nothing proved": "灰色：未能证实",
    "{heading}, row {row}: {cells}": "{heading}，{row}：{cells}",
    "input: change from {n_points}": "输入：相对 {n_points} 的变化",
    "result: change from {n_points}": "结果：相对 {n_points} 的变化",
    "result against input": "结果与输入对比",
    "Points of mAP50-95 under bad conditions": "恶劣条件下的 mAP50-95 百分点",
    "severity {n_severity}": "强度 {n_severity}",
    "{condition} at severity {n_severity} ({strength}): {change}": (
        "{condition}（强度 {n_severity}：{strength}）：{change}"
    ),
    "{condition} at severity {n_severity} ({strength}): {change} ({interval})": (
        "{condition}（强度 {n_severity}：{strength}）：{change}（{interval}）"
    ),
    "{condition} at severity {n_severity}: unknown": "{condition}，强度 {n_severity}：未知",
    "{condition} at severity {n_severity}, result against input: {change}": (
        "{condition}，强度 {n_severity}，结果与输入对比：{change}"
    ),
    "{condition} at severity {n_severity}, result against input: {change} ({interval}, over all cases)": (
        "{condition}，强度 {n_severity}，结果与输入对比：{change}（{interval}，对所有情形同时成立）"
    ),
    # report.py
    "{n_times} faster": "加速 {n_times}",
    "{n_times} slower": "变慢 {n_times}",
    "{n_times} faster, {n_ratio} smaller": "加速 {n_times}，体积缩小 {n_ratio}",
    "{n_times} faster, {n_ratio} larger": "加速 {n_times}，体积增大 {n_ratio}",
    "{n_times} slower, {n_ratio} smaller": "变慢 {n_times}，体积缩小 {n_ratio}",
    "{n_times} slower, {n_ratio} larger": "变慢 {n_times}，体积增大 {n_ratio}",
    "neither faster nor slower": "速度不变",
    "neither faster nor slower, {n_ratio} smaller": "速度不变，体积缩小 {n_ratio}",
    "neither faster nor slower, {n_ratio} larger": "速度不变，体积增大 {n_ratio}",
    "neither smaller nor larger": "体积不变",
    "{n_times} faster, neither smaller nor larger": "加速 {n_times}，体积不变",
    "{n_times} slower, neither smaller nor larger": "变慢 {n_times}，体积不变",
    "neither faster nor slower, neither smaller nor larger": "速度和体积都不变",
    "{n_times} smaller": "体积缩小 {n_times}",
    "{n_times} larger": "体积增大 {n_times}",
    "speed unknown": "速度未知",
    "size unknown": "体积未知",
    "bare heads unknown (no class has the role no_helmet)": "未戴头盔的头部情况未知（没有任何类别的角色是 no_helmet）",
    # errors.py
    "{n_lost} of {n_heads} bare heads newly missed, {n_won} newly found": (
        "{n_heads} 个未戴头盔的头部中新漏检 {n_lost} 个，新检出 {n_won} 个"
    ),
    "no bare head is labelled here": "这里没有标注任何未戴头盔的头部",
    # gate.py
    "passed": "通过",
    "failed": "未通过",
    "undecided": "无法判定",
    "not judged": "不作判定",
    "recall of no_helmet": "no_helmet 召回率",
    "class {name_own}": "类别 {name_own}",
    "size small": "小目标",
    "size medium": "中目标",
    "size large": "大目标",
    "{n_points} points lost": "损失 {n_points} 个百分点",
    "{n_points} points gained": "提升 {n_points} 个百分点",
    "unchanged": "不变",
    "measured {n_points} points lower": "测得低 {n_points} 个百分点（可能出于偶然）",
    "measured {n_points} points higher": "测得高 {n_points} 个百分点（可能出于偶然）",
    "{name}: {n_points} points lost": "{name}：损失 {n_points} 个百分点",
    "{name}: {n_points} points gained": "{name}：提升 {n_points} 个百分点",
    "a loss between {n_low} and {n_high}": "损失 {n_low} 至 {n_high}",
    "a gain between {n_low} and {n_high}": "提升 {n_low} 至 {n_high}",
    "between a gain of {n_gain} and a loss of {n_loss}": "提升 {n_gain} 至损失 {n_loss}",
    "{name}: {change} (95 % interval: {interval}; allowed {n_margin})": (
        "{name}：{change}（95% 置信区间：{interval}；门限 {n_margin}）"
    ),
    "the loss lies on the margin, so that no practicable number of pictures would decide": (
        "损失恰在门限上，再多图片也无法判定"
    ),
    "{n_pictures} pictures cannot tell, about {n_needed} would if the loss stays what it is": (
        "{n_pictures} 张图片不足以判定，若损失保持不变，约需 {n_needed} 张"
    ),
    "{n_pictures} pictures cannot tell, about {n_needed} would": "{n_pictures} 张图片不足以判定，约需 {n_needed} 张",
    "{heads}, at {n_alarms} false alarms per 100 pictures": "{heads}（每 100 张图片误报 {n_alarms} 次处）",
    "{n_units} independent pictures of {name_split} are too few for an interval that can be trusted (at least "
    "{n_fewest}), so none is shown.": (
        "{name_split} 只有 {n_units} 张独立图片，区间不可信（至少需要 {n_fewest} 张），因此不给出区间。"
    ),
    "{name}: {change}; no interval can be trusted on {n_units} independent pictures (at least {n_fewest})": (
        "{name}：{change}；{n_units} 张独立图片上的置信区间不可信（至少需要 {n_fewest} 张）"
    ),
    "{name}: {change}, no interval can be trusted on {n_heads} heads in {n_pictures} independent pictures (at least "
    "{n_fewest} in {n_fewest_pictures})": (
        "{name}：{change}，仅 {n_heads} 个头部、分布在 {n_pictures} 张独立图片中，没有可信的置信区间（至少 {n_fewest} "
        "个、{n_fewest_pictures} 张）"
    ),
    "{name}: {heads}; no interval can be trusted on {n_heads} heads in {n_pictures} independent pictures (at least "
    "{n_fewest} in {n_fewest_pictures})": (
        "{name}：{heads}；{n_heads} 个头部、分布在 {n_pictures} 张独立图片中，置信区间不可信（至少需要 {n_fewest} 个、"
        "{n_fewest_pictures} 张）"
    ),
    "{name}: unknown, nothing of it is labelled here": "{name}：未知，这里没有相应的标注",
    "{name}: no bare head is labelled here": "{name}：这里没有标注任何未戴头盔的头部",
    "{name}: {n_boxes} boxes in {n_pictures} independent pictures are too few to judge (at least {n_fewest} "
    "pictures)": (
        "{name}：{n_pictures} 张独立图片中的 {n_boxes} 个标注框太少，不足以判定（至少需要 {n_fewest} 张图片）"
    ),
    "{name}: {change} (95 % interval: {interval}); not provably above {n_margin}": (
        "{name}：{change}（95% 置信区间：{interval}）；不能证实超过 {n_margin}"
    ),
    "{name}: cannot be said, no class has the role no_helmet (the classes are {name_classes}; --role no_helmet=NAME "
    "gives one the role)": (
        "{name}：无法得出，没有任何类别的角色是 no_helmet（现有类别：{name_classes}；可用 --role no_helmet=NAME 指定）"
    ),
    # comparison.py
    "{name}: {change}, too few pictures for an interval": "{name}：{change}，图片太少，无法给出置信区间",
    "{name}: {change} (95 % interval: {interval})": "{name}：{change}（95% 置信区间：{interval}）",
    "{name_own}: '{name_class}' is left out: {name_all} has no such class": (
        "{name_own}：不计入“{name_class}”：{name_all} 没有这一类别"
    ),
    "no difference shown": "未显示差异",
    "Thresholds were chosen on the reported pictures themselves ({name_split}), which flatters recall": (
        "阈值就是在报告图片（{name_split}）上选的，召回率因此偏高"
    ),
    "'{name_class}' is left out: {name_all} has no such class": "不计入“{name_class}”：{name_all} 没有这一类别",
    # statistics/resolution.py, statistics/risks.py
    "{n_pictures} pictures: {n_units} of them independent, at least {n_fewest} are needed to say what they can show": (
        "{n_pictures} 张图片：其中相互独立的 {n_units} 张，至少需要 {n_fewest} 张才能说明能看出多大的损失"
    ),
    "{n_pictures} pictures: the baseline finds nothing in them, so that no loss can be seen": (
        "{n_pictures} 张图片：基线在其中什么也没有检出，无法看出任何损失"
    ),
    "{n_pictures} pictures: nothing is labelled, so that no loss can be seen": (
        "{n_pictures} 张图片：没有任何标注，看不出任何损失"
    ),
    "{n_pictures} pictures: a loss below {n_points} points cannot be seen": (
        "{n_pictures} 张图片：低于 {n_points} 个百分点的损失看不出来"
    ),
    "about {n_pictures} would show 1 point half of the time": "约 {n_pictures} 张才有一半机会显示 1 个百分点",
    "No bare head is labelled": "没有标注任何未戴头盔的头部",
    "{n_heads} bare heads: one head is {n_points} points of recall": (
        "{n_heads} 个未戴头盔的头部：每个头部合 {n_points} 个百分点的召回率"
    ),
    "{trait}: {n_with} heads with it and {n_without} without, so nothing is said": (
        "{trait}：有此属性的头部 {n_with} 个，没有的 {n_without} 个，因此不作结论"
    ),
    "{trait}: {n_hit} of {n_with} {hit}, {n_others_hit} of {n_others} of the others": (
        "{trait}：{n_with} 个中{hit} {n_hit} 个，其余 {n_others} 个中 {n_others_hit} 个"
    ),
    "{trait}: {n_hit} of {n_with} {hit}, {n_others_hit} of {n_others} of the others: {n_times} times as often": (
        "{trait}：{n_with} 个中{hit} {n_hit} 个，其余 {n_others} 个中 {n_others_hit} 个：发生率为 {n_times} 倍"
    ),
    "missed": "漏检",
    "newly missed": "新漏检",
    "newly found": "新检出",
    # findings/words.py
    "Findings": "发现的问题",
    "the baseline": "基线",
    "class {name_own}: reported {n_after} times, not {n_before}; of {n_heads} heads {name_baseline} finds "
    "{n_found_before}, this model {n_found_after}": (
        "类别 {name_own}：报出 {n_after} 次，而非 {n_before} 次；{n_heads} 个头部中，{name_baseline} 检出"
        " {n_found_before} 个，该模型检出 {n_found_after} 个"
    ),
    "class {name_own}: never reported; of {n_heads} heads {name_baseline} finds {n_found_before}, this model "
    "{n_found_after}": (
        "类别 {name_own}：从未报出；{n_heads} 个头部中，{name_baseline} 检出 {n_found_before} 个，该模型检出"
        " {n_found_after} 个"
    ),
    "blind below {n_limit} of height: there it finds {n_kept} of the {n_heads} heads that {name_baseline} finds, "
    "even at a quarter of the lower threshold; above it it loses {n_lost} of {n_others}": (
        "高度低于 {n_limit} 时失明：{name_baseline} 检出的 {n_heads} 个头部中，即使阈值降到两者较低阈值的四分之一，它"
        "也只检出 {n_kept} 个；在此高度以上，{n_others} 个中丢失 {n_lost} 个"
    ),
    "blind below {n_limit} of height: there it finds {n_kept} of the {n_heads} heads that {name_baseline} finds, "
    "even at a quarter of the lower threshold; above it it loses none of {n_others}": (
        "高度低于 {n_limit} 时失明：{name_baseline} 检出的 {n_heads} 个头部中，即使阈值降到两者较低阈值的四分之一，它"
        "也只检出 {n_kept} 个；在此高度以上，{n_others} 个中没有丢失"
    ),
    "blind from {n_limit} of height on: there it finds {n_kept} of the {n_heads} heads that {name_baseline} finds, "
    "even at a quarter of the lower threshold; below it it loses {n_lost} of {n_others}": (
        "高度达到 {n_limit} 起失明：{name_baseline} 检出的 {n_heads} 个头部中，即使阈值降到两者较低阈值的四分之一，它"
        "也只检出 {n_kept} 个；在此高度以下，{n_others} 个中丢失 {n_lost} 个"
    ),
    "blind from {n_limit} of height on: there it finds {n_kept} of the {n_heads} heads that {name_baseline} finds, "
    "even at a quarter of the lower threshold; below it it loses none of {n_others}": (
        "高度达到 {n_limit} 起失明：{name_baseline} 检出的 {n_heads} 个头部中，即使阈值降到两者较低阈值的四分之一，它"
        "也只检出 {n_kept} 个；在此高度以下，{n_others} 个中没有丢失"
    ),
    "boxes are moved: they lie {shift} from where {name_baseline} has them (median of {n_pairs})": (
        "框整体偏移：相对 {name_baseline} 的位置{shift}（{n_pairs} 对的中位数）"
    ),
    "boxes are moved: they lie {across} and {along} from where {name_baseline} has them (median of {n_pairs})": (
        "框整体偏移：相对 {name_baseline} 的位置{across}、{along}（{n_pairs} 对的中位数）"
    ),
    "{n_pixels} to the right": "向右 {n_pixels}",
    "{n_pixels} to the left": "向左 {n_pixels}",
    "{n_pixels} down": "向下 {n_pixels}",
    "{n_pixels} up": "向上 {n_pixels}",
    "from the labelled boxes {name_baseline} is ({n_x}, {n_y}) px away, this model ({n_own_x}, {n_own_y}) px": (
        "相对标注框，{name_baseline} 偏离 ({n_x}, {n_y}) px，该模型偏离 ({n_own_x}, {n_own_y}) px"
    ),
    "Is the letterbox's padding undone, and by the right scale?": "letterbox 的填充是否已还原，缩放比例是否正确？",
    "colours: it answers like {name_baseline} when red and blue are swapped: {n_swapped} of {n_boxes} boxes have a "
    "like one then, {n_alike} as the pictures are ({n_pictures} pictures)": (
        "颜色：红蓝通道互换后，它的结果才与 {name_baseline} 一致：{n_boxes} 个框中，互换后有 {n_swapped} 个相符，原图"
        "只有 {n_alike} 个（{n_pictures} 张图片）"
    ),
    "Is it fed BGR for RGB?": "是否把 BGR 当作 RGB 输入了？",
    "scores of {name_own} are {n_ratio} times those of {name_baseline} (median of {n_pairs} heads): its threshold "
    "moved from {n_before} to {n_after}; keeping the old one would lose {n_lost} of {n_heads} heads": (
        "{name_own} 的得分是 {name_baseline} 的 {n_ratio} 倍（{n_pairs} 个头部的中位数）：其阈值从 {n_before} 移到 "
        "{n_after}；沿用旧阈值会在 {n_heads} 个头部中丢失 {n_lost} 个"
    ),
    "scores of {name_own} are {n_ratio} times those of {name_baseline} (median of {n_pairs} heads): its threshold "
    "moved from {n_before} to {n_after}; keeping the old one would raise {n_alarms} more false alarms": (
        "{name_own} 的得分是 {name_baseline} 的 {n_ratio} 倍（{n_pairs} 个头部的中位数）：其阈值从 {n_before} 移到 "
        "{n_after}；沿用旧阈值会多出 {n_alarms} 次误报"
    ),
    "{n_pictures} of {n_tested} pictures of {name_tested} look the same as pictures of {name_learned}: {pairs}": (
        "{name_tested} 部分的 {n_tested} 张图片中，有 {n_pictures} 张看起来与 {name_learned} 部分的图片相同：{pairs}"
    ),
    "{n_pictures} of {n_tested} pictures of {name_tested} look the same as pictures of {name_learned}: {pairs} and "
    "{n_more} more": (
        "{name_tested} 部分的 {n_tested} 张图片中，有 {n_pictures} 张看起来与 {name_learned} 部分的图片相同：{pairs}，"
        "另有 {n_more} 张"
    ),
    "{name_own}: {n_map} points of mAP50-95, {n_without} without them (95 % interval: {n_low} to {n_high})": (
        "{name_own}：mAP50-95 为 {n_map} 个百分点，去掉它们为 {n_without}（95% 置信区间：{n_low} 至 {n_high}）"
    ),
    "{name_own}: {n_map} points of mAP50-95, {n_without} without them, no interval": (
        "{name_own}：mAP50-95 为 {n_map} 个百分点，去掉它们为 {n_without}，没有置信区间"
    ),
    "{name_model} learned from these very pictures ({name_split}, {hash}): its figures say what it remembers, not "
    "what it can do": (
        "{name_model} 就是用这些图片训练的（{name_split}，{hash}）：其指标反映它记住了什么，而不是它的能力"
    ),
    "{name_model} was tuned and judged on these very pictures ({name_split}, {hash}): its figures say what it "
    "remembers, not what it can do": (
        "{name_model} 就是在这些图片上调参和判定的（{name_split}，{hash}）：其指标反映它记住了什么，而不是它的能力"
    ),
    "{name_model}: not looked for: {family}; {n_seen} to go by, in too few pictures or fewer than the {n_needed} it "
    "takes": "{name_model}：未检查{family}；可依据的只有 {n_seen} 个，所在图片太少或不足所需的 {n_needed} 个",
    "{name_model}: not looked for: {family} ({name_class}); {n_seen} to go by, in too few pictures or fewer than the "
    "{n_needed} it takes": (
        "{name_model}：未检查{family}（{name_class}）；可依据的只有 {n_seen} 个，所在图片太少或不足所需的 {n_needed} 个"
    ),
    "a class that is no longer reported": "某个类别是否不再报出",
    "heights at which it is blind": "某些高度是否失明",
    "boxes that are moved": "框是否整体偏移",
    "scores that are all lower or higher": "得分是否整体偏低或偏高",
    "red and blue taken for each other": "红蓝通道是否颠倒",
    # diagnosis/
    "right place, wrong class": "位置正确，类别错误",
    "right class, badly placed (IoU 0.1 to 0.5)": "类别正确，位置偏差大（IoU 0.1 至 0.5）",
    "wrong class and badly placed": "类别错误且位置偏差大",
    "a second box on a head that a better one has found": "同一头部上的重复框",
    "on background": "位于背景上",
    "a labelled head that no detection found or nearly found": "没有任何检测找到或接近找到的标注头部",
    "{n_low} or more": "{n_low} 及以上",
    "any height": "任意高度",
    "below {n_high}": "低于 {n_high}",
    # causes/causes.py, causes/traits.py
    "missed: other class": "漏检：报成其他类别",
    "missed: badly placed": "漏检：位置偏差大",
    "missed: below the threshold": "漏检：得分低于阈值",
    "missed: not seen": "漏检：完全没有检出",
    "false alarm: duplicate": "误报：重复框",
    "false alarm: other class": "误报：类别错误",
    "false alarm: badly placed": "误报：位置偏差大",
    "false alarm: other class and badly placed": "误报：类别错误且位置偏差大",
    "false alarm: look-alike": "误报：形似物",
    "false alarm: background": "误报：背景",
    "reported as {name_class}": "报为 {name_class}",
    "the box lies badly": "框的位置偏差大",
    "seen, but below the threshold": "有检出，但得分低于阈值",
    "not seen": "完全没有检出",
    "reported as {name_class} (score {n_score})": "报为 {name_class}（得分 {n_score}）",
    "the box lies badly (score {n_score})": "框的位置偏差大（得分 {n_score}）",
    "seen, but below the threshold (score {n_score})": "有检出，但得分低于阈值（得分 {n_score}）",
    "shown to matter here: {traits}": "这里证实有关：{traits}",
    "not shown to: {traits}": "未证实有关：{traits}",
    "{name_class} (score {n_score}): {happened}": "{name_class}（得分 {n_score}）：{happened}",
    "a second box on a head that is labelled {name_class}": "标注为 {name_class} 的头部上的重复框",
    "on a head that is labelled {name_class}": "位于标注为 {name_class} 的头部上",
    "lies badly on a head that is labelled {name_class}": "位于标注为 {name_class} 的头部上，位置偏差大",
    "something that looks like it: surer than half of the true detections": "形似物：得分高于一半的正确检测",
    "a {name_class}, as labelled": "标注为 {name_class} 的物体",
    "small": "偏小",
    "blurred": "模糊",
    "dark": "偏暗",
    "in a dark picture": "位于偏暗的图片中",
    "crowded": "拥挤",
    "cut off by the border": "被图片边缘截断",
    "small ({n_height} high)": "偏小（高 {n_height}）",
    "blurred (sharpness {n_sharpness})": "模糊（清晰度 {n_sharpness}）",
    "dark (luma {n_luma})": "偏暗（亮度 {n_luma}）",
    "in a dark picture (luma {n_luma})": "位于偏暗的图片中（亮度 {n_luma}）",
    "crowded (IoU {n_iou}, heads near: {n_near})": "拥挤（IoU {n_iou}，附近头部 {n_near} 个）",
    # causes/label_mistakes.py
    "{name_class} is reported and nothing is labelled here": "检出 {name_class}，这里却没有标注",
    "labelled {name_class}, but {name_suggested} is reported": "标注为 {name_class}，却检出 {name_suggested}",
    "labelled {name_class}, {n_height} high, but nothing above {n_score} is reported": (
        "标注为 {name_class}，高 {n_height}，却没有得分高于 {n_score} 的检测"
    ),
    "{n_wrong} of {n_boxes} labelled heads look wrong and {n_missing} seem to be missing, in {n_pictures} pictures ("
    "{n_detectors} detector)": (
        "{n_pictures} 张图片的 {n_boxes} 个标注头部中，{n_wrong} 个看似有误，另有 {n_missing} 个似乎漏标（"
        "{n_detectors} 个检测器）"
    ),
    "{n_wrong} of {n_boxes} labelled heads look wrong and {n_missing} seem to be missing, in {n_pictures} pictures ("
    "{n_detectors} detectors)": (
        "{n_pictures} 张图片的 {n_boxes} 个标注头部中，{n_wrong} 个看似有误，另有 {n_missing} 个似乎漏标（"
        "{n_detectors} 个检测器）"
    ),
    "{n_heads} that nobody finds cannot be judged": "{n_heads} 个谁都没有检出的头部无法判断",
    # thresholds.py
    "best F1 of each class": "各类别的最佳 F1",
    "recall of at least {n_share} of each class": "各类别召回率至少 {n_share}",
    "at most {n_alarms} false alarms of each class for every 100 pictures": "每 100 张图片各类别至多误报 {n_alarms} 次",
    "{rule} at IoU 0.5 on {n_pictures} pictures of the {name_split} split": (
        "{rule}，IoU 0.5，{name_split} 部分的 {n_pictures} 张图片"
    ),
    "{name_classes}: not so many are found at any score, so that every score counts": (
        "{name_classes}：任何得分下都达不到，因此计入所有得分"
    ),
    "{name_classes}: {n_threshold}, as nothing of it is labelled or found there": (
        "{name_classes}：{n_threshold}，因为那里没有它的标注或检出"
    ),
    # conditions/, robustness.py, extra_loss.py
    "rain": "雨",
    "fog": "雾",
    "night": "夜间",
    "glare": "眩光",
    "motion blur": "运动模糊",
    "JPEG": "JPEG 压缩",
    "noise": "噪声",
    "low resolution": "低分辨率",
    "occlusion": "遮挡",
    "streaks over {n_share} of it": "雨丝覆盖画面的 {n_share}",
    "visibility {n_metres} m": "能见度 {n_metres} m",
    "{n_stops} stops less light ({light})": "光线减少 {n_stops} 档（{light}）",
    "{n_stops} stops less ({light})": "光线减少 {n_stops} 档（{light}）",
    "white to {n_share} of the shorter side": "短边 {n_share} 以内全白",
    "{n_share} of the longer side": "长边的 {n_share}",
    "{n_share} of it": "长边的 {n_share}",
    "quality {n_quality}": "质量 {n_quality}",
    "deviation {n_deviation} of 255": "标准差 {n_deviation}（满幅 255）",
    "{n_pixels} pixels on the longer side": "长边 {n_pixels} 像素",
    "{n_pixels} pixels": "长边 {n_pixels} 像素",
    "{n_share} of each box": "每个框的 {n_share}",
    "{condition} at severity {n_severity} ({strength})": "{condition}（强度 {n_severity}：{strength}）",
    "Whether the result loses more than the input under any condition is unknown: nothing is labelled": (
        "结果是否在某种条件下比输入损失更多，未知：没有任何标注"
    ),
    "{n_pictures} independent pictures are too few to tell whether the result loses more than the input under any "
    "condition (at least {n_fewest})": (
        "{n_pictures} 张独立图片太少，无法判断结果是否在某种条件下比输入损失更多（至少需要 {n_fewest} 张）"
    ),
    "In none of the {n_cases} cases is it proved that the result loses more than the input: what differs cannot be "
    "told from chance on {n_pictures} pictures": (
        "{n_cases} 种情形中，没有一种证实结果比输入损失更多：在 {n_pictures} 张图片上，现有差异与偶然无法区分"
    ),
    "The result breaks first in {case}: {n_points} points more lost than by the input (95 % interval over all "
    "{n_cases} cases: {n_low} to {n_high})": (
        "结果最先在{case}下失效：比输入多损失 {n_points} 个百分点（对全部 {n_cases} 种情形同时成立的 95% 置信区间："
        "{n_low} 至 {n_high}）"
    ),
    "more is lost in {conditions} too": "在{conditions}条件下也损失更多",
    # job/candidates.py, job/peers.py, job/measure.py: rows and factors
    "FP32 at {n_size}": "FP32，{n_size} 像素",
    "BF16 at {n_size}": "BF16，{n_size} 像素",
    "NNCF INT8 at {n_size}": "NNCF INT8，{n_size} 像素",
    "{n_step}. {technique}": "{n_step}. {technique}",
    "{row} in BF16": "{row}，BF16",
    "{row}, rest in BF16": "{row}，其余 BF16",
    "prune": "剪枝",
    "drop_scale": "去掉检测尺度",
    "drop_block": "去掉模块",
    "sparsify": "稀疏化",
    "slim": "缩放惩罚剪枝（slim）",
    "admm": "ADMM 剪枝",
    "growing": "递增正则剪枝（growing）",
    "gates": "L0 门控剪枝（gates）",
    "activation": "激活函数",
    "low_rank": "低秩分解",
    "separable": "可分离卷积",
    "tie": "权重共享（tie）",
    "cluster": "权重聚类",
    "distill": "蒸馏",
    "equalize": "权重均衡",
    "quantize": "量化",
    "weight_only": "仅权重量化",
    "input size": "输入尺寸",
    "structure": "结构",
    "precision": "数值精度",
    "needs no training": "无需训练",
    "PyTorch: not timed, since it is not what ships": "PyTorch：未计时，因为交付的不是它",
    "{n_share} of the kernels' weights are zero: a smaller download": "卷积核权重的 {n_share} 为零：下载更小",
    "weights stored in {precision}, computed in float: a smaller file, no speed": (
        "权重以 {precision} 存储、以浮点计算：文件更小，速度不变"
    ),
    "{n_rounds} interleaved, batch 1, network alone": "{n_rounds}（交替进行，batch 1，仅网络本身）",
    "{cpu}, {n_usable} of {n_cores} cores, {system}": "{cpu}，{n_cores} 核中可用 {n_usable} 核，{system}",
    "The exported file of '{row}' does not give what its detector gives in PyTorch: boxes are {n_pixels} pixels and "
    "scores {n_score} apart on average. Its figures are the file's, and not what compression cost": (
        "“{row}”的导出文件与其 PyTorch 检测器的结果不一致：框平均相差 {n_pixels} 像素，得分平均相差 {n_score}。所列"
        "数据属于该文件，并非压缩的代价"
    ),
    # job/curves.py
    "epoch": "轮次",
    "parts of the loss": "损失的各部分",
    "loss": "损失",
    "box": "边框",
    "score": "得分",
    "price": "代价",
    "sparsity": "稀疏度",
    # job/teachers_gain.py
    "What the teacher brought in step {n_step} ({technique}): unknown, nothing is labelled in these pictures": (
        "第 {n_step} 步（{technique}）中教师带来的提升：未知，这些图片没有任何标注"
    ),
    "What the teacher brought in step {n_step} ({technique}): {n_gain} points of mAP50-95 ({interval}), {n_with} "
    "against {n_without} for the same detector trained the same {n_epochs} epochs without one": (
        "第 {n_step} 步（{technique}）中教师带来的提升：mAP50-95 {n_gain} 个百分点（{interval}），有教师为 {n_with}，"
        "同一检测器不用教师同样训练 {n_epochs} 轮为 {n_without}"
    ),
    "too few pictures for an interval": "图片太少，无法给出置信区间",
    "95 % interval {n_low} to {n_high}": "95% 置信区间 {n_low} 至 {n_high}",
    # job/compress.py, job/demo.py
    "Step {n_step} ({technique}) was made by --train-only, on a machine that is not the target: it went by "
    "multiply-accumulates where it would have gone by measured times": (
        "第 {n_step} 步（{technique}）由 --train-only 在非目标机器上完成：本应依据实测时间之处，依据的是乘加次数"
    ),
    "Step {n_step} ({technique}) made choices by looking at the tuning pictures, on which the gate judges": (
        "第 {n_step} 步（{technique}）看着调参图片做了选择，而判定正是在这些图片上进行的"
    ),
    "Step {n_step} ({technique}): {remark}": "第 {n_step} 步（{technique}）：{remark}",
    "The bundle's file for {runtime}, which was not evaluated, is on average {n_pixels} pixels and {n_score} in "
    "score from the detector in PyTorch; {n_share} of its {n_boxes} boxes on {n_pictures} pictures match at IoU 0.95": (
        "bundle 中供 {runtime} 使用的文件未经评测；它与 PyTorch 中的检测器相比，框平均相差 {n_pixels} 像素，得分平"
        "均相差 {n_score}；{n_pictures} 张图片上的 {n_boxes} 个框中有 {n_share} 在 IoU 0.95 下一致"
    ),
    "{n_pictures} pictures without labels ({name_folder}) took part in the teacher's losses": (
        "{n_pictures} 张无标注图片（{name_folder}）参与了教师损失"
    ),
    "{n_pictures} pictures could not be read and were left out: {reasons}": (
        "{n_pictures} 张图片无法读取，未计入：{reasons}"
    ),
    "and {n_more} more": "另有 {n_more} 张",
    "{n_boxes} labelled boxes of {name_split} are of classes that the detector lacks; they were left out": (
        "{name_split} 部分有 {n_boxes} 个标注框属于检测器没有的类别，未计入"
    ),
    "{name_model} was trained on {pictures}. Where the pictures here are of that origin, its own figure is flattered, "
    "and a drop measured against it is an upper bound": (
        "{name_model} 的训练数据是{pictures}。若这里的图片与之同源，它自身的指标会偏高，相对它测得的下降是上限"
    ),
    "The pictures of this demo are drawn by helmlite: they show how it works, and nothing about real streets.": (
        "本演示的图片由 helmlite 绘制：只说明它如何工作，不说明真实街道上的效果。"
    ),
    "With your own: helmlite data check DATA.yaml, then helmlite compress MODEL.pt --data DATA.yaml --out DIR.": (
        "换成你自己的：先运行 helmlite data check DATA.yaml，再运行 helmlite compress MODEL.pt --data DATA.yaml "
        "--out DIR。"
    ),
    # data/dataset.py: pictures that cannot be read
    "left out: {reason}": "未计入：{reason}",
    "{name_own}: left out: {reason}": "{name_own}：未计入：{reason}",
    "{path}: the picture is cut off, its end is missing ({n_bytes} bytes)": (
        "{path}：图片被截断，缺少末尾（{n_bytes} 字节）"
    ),
    "{path}: damaged, or too large to decode ({n_bytes} bytes)": "{path}：已损坏，或过大而无法解码（{n_bytes} 字节）",
    "{path}: damaged, or too large to decode ({n_bytes} bytes, {n_width} x {n_height} pixels by its header)": (
        "{path}：已损坏，或过大而无法解码（{n_bytes} 字节，文件头标明 {n_width} x {n_height} 像素）"
    ),
    "{path}: not a readable picture ({n_bytes} bytes)": "{path}：不是可读取的图片（{n_bytes} 字节）",
    "{path}: no file can have this name": "{path}：文件不能叫这个名字",
    # detector/zoo.py, and notes of detector/ultralytics.py and detector/tiny.py
    "{name_model}: the wheel says MIT, the checkpoint inside says AGPL-3.0": (
        "{name_model}：wheel 标明 MIT，其中的权重文件标明 AGPL-3.0"
    ),
    "pictures of the same origin as Kaggle's 'Helmet Detection' (MakeML Bikes Helmets)": (
        "与 Kaggle“Helmet Detection”（MakeML Bikes Helmets）同源的图片"
    ),
    "licence: {licence}": "许可：{licence}",
    "checkpoint licence: {licence}": "权重文件的许可：{licence}",
    "checkpoint_licence: {licence}": "权重文件的许可：{licence}",
    "trained with: {library}": "训练所用：{library}",
    "trained_with: {library}": "训练所用：{library}",
    "training data: {data}": "训练数据：{data}",
    "training_data: {data}": "训练数据：{data}",
    # compress/: remarks, and why parts stayed float
    "The teacher has no one-to-one branch; classes and boxes of the student's, which ships, are learned from the "
    "labels alone, those of its one-to-many branch from the teacher too": (
        "教师没有一对一分支；学生交付时使用的一对一分支只从标注学习类别和边框，其一对多分支也向教师学习"
    ),
    "integer inputs and weights, float result: the head's raw maps": "输入和权重为整数，结果为浮点：检测头的原始输出",
    "kept in float as asked for": "按要求保持浮点",
    "attention: products and softmax of a wide range": "注意力：乘积与 softmax 的取值范围很宽",
    "its result goes into float operators only": "其结果只进入浮点算子",
    "no integer kernel for {operator}": "{operator} 没有整数内核",
    "boxes in pixels and scores in [0, 1] cannot share a scale; DFL needs its softmax": (
        "以像素计的框与 [0, 1] 的得分不能共用一个量化尺度；DFL 需要 softmax"
    ),
    "kept in float: sensitivity {n_noise} of noise to signal": "保持浮点：敏感度（噪声与信号之比）{n_noise}",
    # runtime/bundle.py, cli/evaluate.py, cli/leaks.py: remarks on a model of a comparison
    "These are pictures of {name_split}: what a model scores on pictures it learned from is no test of it": (
        "这些是 {name_split} 部分的图片：模型在它学习过的图片上的得分不是测试"
    ),
    "The {name_split} split cannot be opened, so near-duplicates of it were not looked for: {reason}": (
        "{name_split} 部分无法打开，因此没有查找与之近似重复的图片：{reason}"
    ),
    "{name_model}: exported to ONNX for this evaluation": "{name_model}：为本次评测导出为 ONNX",
    '{name_model}: {runtime}, which is fastest, is missing: pip install "{package}". Ran in {other}': (
        '{name_model}：最快的 {runtime} 没有安装：pip install "{package}"。改用 {other} 运行'
    ),
    "{name_model}: The bundle asks for bf16, which {runtime} does not have on this machine. Ran in {precision}": (
        "{name_model}：bundle 要求 bf16，而本机的 {runtime} 没有。改用 {precision} 运行"
    ),
    "{name_model}: Gate: failed. This model lost more than was allowed; the report of its run says what": (
        "{name_model}：判定：未通过。该模型的损失超过了门限，详见其运行报告"
    ),
    "{name_model}: Gate: undecided. This model could not be proved to lose no more than allowed; the report of its run "
    "says what": "{name_model}：判定：无法判定。未能证实该模型的损失不超过门限，详见其运行报告",
    "{name_model}: This processor has no VNNI: INT8 sums can overflow with this model's 8-bit weights, and its answers "
    "differ from what was measured. Compress it on a machine of this kind, which takes 7 bits, or run it in ONNX "
    "Runtime": (
        "{name_model}：本处理器没有 VNNI：该模型的 8 位权重可能使 INT8 累加溢出，结果与测得的不同。请在同类机器上压缩（"
        "会改用 7 位），或用 ONNX Runtime 运行"
    ),
    "{name_model}: licence: {licence}": "{name_model}：许可：{licence}",
    "{name_model}: checkpoint_licence: {licence}": "{name_model}：权重文件的许可：{licence}",
    "{name_model}: trained_with: {library}": "{name_model}：训练所用：{library}",
    "{name_model}: training_data: {data}": "{name_model}：训练数据：{data}",
}
