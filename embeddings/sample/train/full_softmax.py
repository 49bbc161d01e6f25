"""Full-softmax cross entropy over all items, in two matrix products and a few passes over the scores.

Plain autograd keeps half a dozen [batch, items] temporaries; on two cores their page faults cost more than
the arithmetic. Products are in bfloat16, sums in float32.
"""

import torch

HIDDEN_SCORE = -1e4
SELF_MARGIN = 2.0


class FullSoftmax(torch.autograd.Function):
    """Mean over rows of (logsumexp of the row - mean score of its targets).

    users [B, d], items [I, d]; shown, itself and wanted: (row, item) index pairs. A shown pair is no candidate;
    a user that is an item has to stay SELF_MARGIN below its rivals, because its own name and source would
    otherwise put it first; share [pairs] is 1 / (number of targets of that row)."""

    @staticmethod
    def forward(ctx, users, items, shown, itself, wanted, share):
        users16, items16 = users.bfloat16(), items.bfloat16()
        scores = (users16 @ items16.T).float()
        scores[itself] += SELF_MARGIN
        scores[shown] = HIDDEN_SCORE
        score_of_wanted = (scores[wanted] * share).sum()
        top = scores.amax(1, keepdim=True)
        scores.sub_(top).exp_()
        total = scores.sum(1, keepdim=True)
        loss = ((total.log() + top).sum() - score_of_wanted) / len(users)
        scores.div_(total)
        scores[wanted] -= share
        ctx.save_for_backward(users16, items16, scores.bfloat16())
        return loss

    @staticmethod
    def backward(ctx, grad):
        users16, items16, error = ctx.saved_tensors
        scale = grad / len(users16)
        return (error @ items16).float() * scale, (error.T @ users16).float() * scale, None, None, None, None
