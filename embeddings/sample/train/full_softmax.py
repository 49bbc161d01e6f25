"""Full-softmax cross entropy over all items, in two matrix products and a few passes over the scores.

Plain autograd keeps half a dozen [batch, items] temporaries; on two cores their page faults cost more than
the arithmetic. Products are in bfloat16, sums in float32.
"""

import torch

HIDDEN_SCORE = -1e4


class FullSoftmax(torch.autograd.Function):
    """Mean over rows of (logsumexp of the row - mean score of its targets).

    users [B, d], items [I, d]; shown and wanted: (row, item) index pairs; a shown pair is no candidate,
    share [pairs] is 1 / (number of targets of that row)."""

    @staticmethod
    def forward(ctx, users, items, shown, wanted, share):
        users16, items16 = users.bfloat16(), items.bfloat16()
        scores = (users16 @ items16.T).float()
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
        return (error @ items16).float() * scale, (error.T @ users16).float() * scale, None, None, None
